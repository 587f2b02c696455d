"""Unpack a tree from the store, reusing files and chunks that are on the disk."""
