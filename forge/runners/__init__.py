"""Runners, which execute steps, and the scheduler."""
