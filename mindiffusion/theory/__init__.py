"""The two-feature theory as an experiment: its data, networks, training and measures."""
