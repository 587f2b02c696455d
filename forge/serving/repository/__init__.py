"""The Triton model repository: its specification, rendering and templates."""
