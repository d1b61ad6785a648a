"""Command line: recompute the batch-norm statistics of every checkpoint and predict the test set."""

import argparse
from pathlib import Path

from intrinsic_lr.core.imports import gc_disabled
from intrinsic_lr.core.leases import leased
from intrinsic_lr.runs.ensembles import Block


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="intrinsic-lr extract", description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder of a block")
    add("--data", type=Path, required=True, help="data file of prepare_data")
    add("--info", type=Path, required=True, help="description of prepare_data")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--jobs-per-device", type=int, default=1, help="programs that may share a GPU")
    add("--threads", type=int, default=1, help="CPU threads")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the predictions and statistics of all checkpoints of one block."""
    arguments = _arguments(argv)
    # A GPU is chosen before torch is imported.
    with leased(arguments.device, arguments.jobs_per_device) as device_name:
        with gc_disabled():
            import torch

            from intrinsic_lr.data.dataset import load
            from intrinsic_lr.models.devices import resolve
            from intrinsic_lr.runs.extraction import extract_block
            from intrinsic_lr.training.state import DTYPES

        block, device = Block(arguments.run), resolve(device_name)
        torch.set_num_threads(arguments.threads)
        extract_block(block, load(arguments.data, arguments.info, device, DTYPES[block.plan.dtype]), device)
