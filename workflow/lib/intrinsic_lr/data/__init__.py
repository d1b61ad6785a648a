"""Data sets: where they come from, how they are prepared and read."""
