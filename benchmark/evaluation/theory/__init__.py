"""Trained networks of the two-feature theory → rows."""
