"""Commands of the steps of rendering; a step's key follows its module's imports."""
