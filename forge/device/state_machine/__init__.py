"""The pure transition function of an update, its events, actions and journal."""
