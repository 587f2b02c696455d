"""Power modes and limits: the planned commands (pure) and their execution."""
