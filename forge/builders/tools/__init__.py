"""Scripts that run inside a tool environment. They import nothing of Forge."""
