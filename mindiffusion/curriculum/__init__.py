"""When and on what to train: time densities and stages."""
