"""The record: one file of rows, its frames, and how it travels. No torch."""
