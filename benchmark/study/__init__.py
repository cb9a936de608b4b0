"""What is compared: a study's file, its arms, what was fixed beforehand. No torch, no pandas."""
