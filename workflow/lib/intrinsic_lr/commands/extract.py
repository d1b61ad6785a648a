"""Command line: recompute the batch-norm statistics of every checkpoint and predict the test set."""

from pathlib import Path

from intrinsic_lr.commands.options import Parser, job_device
from intrinsic_lr.runs.ensembles import Block


def main(argv: list[str] | None = None) -> None:
    """Write the predictions and statistics of all checkpoints of one block."""
    parser = Parser("extract", __doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a block")
    parser.add_job()
    arguments = parser.parse_args(argv)
    with job_device(arguments) as device:
        from intrinsic_lr.data.dataset import load
        from intrinsic_lr.runs.extraction import extract_block
        from intrinsic_lr.training.state import DTYPES

        block = Block(arguments.run)
        extract_block(block, load(arguments.data, arguments.info, device, DTYPES[block.plan.dtype]), device)
