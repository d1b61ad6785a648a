"""How fast the study runs, measured: `python -m benchmarks [PART] [OPTIONS]`."""
