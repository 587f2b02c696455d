"""Container images: bases pinned by digest, an image for each platform, one index for all."""
