"""The Triton server process and its HTTP client."""
