"""One training loop for every process, network and curriculum."""
