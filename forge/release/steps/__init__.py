"""Commands that the steps of a release run; the imports of a module enter its step's key."""
