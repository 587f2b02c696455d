"""Servers of the tests."""

from tests.support.seaweed import own_seaweedfs, seaweedfs

__all__ = ["own_seaweedfs", "seaweedfs"]
