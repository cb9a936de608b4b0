"""One milestone of a run → its rows, part by part."""
