"""Where the objects of a store are kept: directory, S3, web, mirrors."""
