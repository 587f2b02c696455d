"""Verification shared by publisher and device: names in a store, a TUF client, proofs."""
