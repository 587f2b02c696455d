"""Manifests, proofs, keys, publish and promote."""
