"""Leases, and the lock between writers and garbage collection."""
