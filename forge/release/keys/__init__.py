"""Signing keys: key files, KMS and HSM keys, and the keyring."""
