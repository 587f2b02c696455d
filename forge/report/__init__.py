"""The report of a release: a verified published version as one HTML page and as Markdown.

`gather` reads a version and those before it, `figures` has the rows of the tables that `html` and
`markdown` both show, `plots` and `chain` draw.
"""
