"""A study's rows: the files that they stand in, their frames, and how they travel. No torch."""
