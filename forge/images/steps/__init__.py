"""Commands of the image steps; the key of a step follows the imports of its module."""
