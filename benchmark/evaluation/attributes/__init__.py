"""Which attributes of an image can be read when: classifier, amplitudes, emergence, frequencies."""
