"""Cut files into chunks and write those that the store lacks."""
