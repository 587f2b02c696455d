"""The history of events, status documents and metrics."""
