"""Runners execute steps."""
