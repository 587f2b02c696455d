"""The HTTP API in front of Triton."""
