"""What trained networks have learned: features at their layers, Jacobians, what channels carry."""
