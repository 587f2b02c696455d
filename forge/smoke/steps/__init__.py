"""Commands of the smoke steps; the key of a step follows the imports of its module."""
