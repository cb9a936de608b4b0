"""What ``benchmark speed`` measures, a part each."""
