"""Other simulators of crossbars, given the weights of a build as they lie on its tiles, to compare products with."""
