"""A study of the two-feature theory: its programs, and the command that does them."""
