"""Weights by path: our own, exported ones, and those of other programs."""
