"""The TUF repository: read, edit, sign and write its metadata."""
