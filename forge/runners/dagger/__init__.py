"""The runner that executes steps on a Dagger engine."""
