"""Create, refresh and rotate keys and metadata; report when they expire."""
