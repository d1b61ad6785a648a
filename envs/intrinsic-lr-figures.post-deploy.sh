#!/usr/bin/env bash
# Run by Snakemake with `--sdm conda` once it has made the environment: installs the library of this workflow there.
# The workflow says in INTRINSIC_LR_SOURCE where it is, since Snakemake runs a copy of this file elsewhere.
set -euo pipefail
python -m pip install --quiet --no-deps --editable "$INTRINSIC_LR_SOURCE"
