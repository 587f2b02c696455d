"""State shared by agent and gateway: the active server, the limit, the release, signals."""
