"""From kept weights, or from anybody's images, to numbers with their uncertainty."""
