"""Anybody's images: read from a folder, a zip or an array, or drawn from kept weights."""
