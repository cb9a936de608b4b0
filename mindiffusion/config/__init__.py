"""What a run is: its fields and their checks, the presets they come from, the steps that follow."""
