"""Power and energy, as the machine measures them: GPU, board rails, processor packages."""
