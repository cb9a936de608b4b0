"""The arm with which all others are compared."""

BASELINE = "B"
