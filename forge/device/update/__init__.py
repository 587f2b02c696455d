"""Checks the channel, fetches a release, and decides what a failure means."""
