"""Scripts that run in a tool environment. They do not import Forge."""
