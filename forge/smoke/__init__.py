"""The smoke benchmark."""
