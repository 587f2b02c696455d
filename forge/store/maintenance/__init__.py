"""Garbage collection and verification. The store does not import this package."""
