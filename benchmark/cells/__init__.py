"""Who computes what, where, and how far it is: one cell, cells side by side, cells as jobs."""
