"""What a source of images would become, before anything is prepared."""
