"""Releases: keys, proofs and manifests; publish bundles and promote them to channels."""
