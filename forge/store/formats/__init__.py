"""The formats of a store: names, trees, chunk lists, step results."""
