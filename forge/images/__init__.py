"""Container images: base images pinned by digest, one image per platform, one index per image."""
