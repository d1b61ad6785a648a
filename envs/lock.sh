#!/usr/bin/env bash
# Write every lock and both conda files from the .in files; pins that still fit stay. Needs `uv`.
set -euo pipefail
cd "$(dirname "$0")"

lock() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@" > /dev/null
}

conda() { # NAME FILE.in...
    printf 'name: %s\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python >=3.11\n  - pip\n  - pip:\n' "$1"
    sed 's/^/      - /' "${@:2}"
}

lock -c constraints.txt -o requirements.txt requirements.in
lock -c constraints.txt -o requirements-dev.txt requirements-dev.in
for name in tensorboard slurm s3; do lock -c requirements-dev.txt -o "requirements-$name.txt" "requirements-$name.in"; done
# PyTorch's own index has its CPU wheels, under a local version; pip takes no lock of which some files lack a hash.
grep '==' requirements.txt | sed 's/ \\$//' | grep -vE '^(cuda|nvidia)-|^triton==' \
    | sed -E "s/^(torch(vision)?==.*)/\1+cpu ; sys_platform == 'linux'\n\1 ; sys_platform != 'linux'/" > requirements-cpu.txt
lock -c constraints.txt -o requirements-no-triton.txt --no-emit-package triton requirements.in
conda intrinsic-lr requirements.in > intrinsic-lr.yaml
conda intrinsic-lr-figures <(grep -vE '^torch|^scikit-learn' requirements.in) > intrinsic-lr-figures.yaml
conda intrinsic-lr-tensorboard requirements.in requirements-tensorboard.in > intrinsic-lr-tensorboard.yaml
