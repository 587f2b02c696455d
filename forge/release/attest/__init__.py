"""Proofs of a bundle: SBOM, provenance and the signature of the engine."""
