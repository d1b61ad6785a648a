"""What every room uses: files, errors, seeds, locks. Imports no torch and nothing of the study."""
