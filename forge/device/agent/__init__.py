"""Runs updates and the servers of the slots."""
