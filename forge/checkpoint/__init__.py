"""Model weights: the URL that names them, the fetch, the architecture."""
