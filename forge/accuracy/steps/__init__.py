"""Commands of the accuracy steps; the key of a step follows the imports of its module."""
