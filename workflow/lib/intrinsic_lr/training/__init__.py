"""The training of one block of replicates."""
