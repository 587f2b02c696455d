"""Answers of the OpenAI-compatible endpoints: whole documents and streams."""
