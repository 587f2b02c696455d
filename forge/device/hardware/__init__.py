"""Facts about this machine, the profile they match, and whether a bundle fits."""
