"""The state directory: slots, settings, lock, integrity."""
