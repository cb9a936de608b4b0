"""How fast this machine trains, samples and prepares, beside plain ways to do the same."""
