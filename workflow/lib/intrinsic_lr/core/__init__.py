"""What every room stands on: files, errors, seeds, locks. Imports no torch and nothing of the study."""
