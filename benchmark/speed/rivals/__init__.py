"""Plain ways and other tools that do the same work, to be measured beside ours."""
