"""Trained blocks read back, with their checksums verified."""
