"""Command line: a finished training's curves as an event file of TensorBoard, an optional package."""

from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core.block_files import HISTORY
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import atomic_path
from intrinsic_lr.runs.ensembles import Block

RATES = ("lr", "weight_decay", "intrinsic_lr")
"""Columns of the history that all replicates share."""
STATISTICS = ("mean", "min", "max")


def check_installed() -> None:
    """Raise `InputError` unless TensorBoard can be imported."""
    if find_spec("tensorboard") is None:
        raise InputError(
            "config: tensorboard: must be false, since the package tensorboard is not installed, got true; "
            "`pip install -r envs/requirements-tensorboard.txt` installs it"
        )


def curves(history: pd.DataFrame) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each logged step with its numbers by tag.

    Tags are `<quantity>/mean`, `/min` and `/max` over the replicates that are finite, and the names of the rates;
    what is missing at a step has no tag there. The history has a row per replicate and logged step.
    """
    quantities = [name for name in history if name not in ("step", "replicate", *RATES)]
    table = history.groupby("step")[quantities].agg(STATISTICS)
    table.columns = ["/".join(names) for names in table.columns]
    table = table.join(history.groupby("step")[list(RATES)].first())
    for step, row in table.iterrows():
        yield int(step), row.dropna().to_dict()


def write_events(block: Block, path: Path) -> None:
    """Write the curves of a block; every event has the time at which the training was finished."""
    check_installed()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    time = datetime.fromisoformat(block.record["finished"]).timestamp()
    history = block.table(HISTORY)
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        writer = RecordWriter(handle)
        writer.write(Event(wall_time=time, file_version="brain.Event:2").SerializeToString())
        for step, numbers in curves(history):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()])
            writer.write(Event(wall_time=time, step=step, summary=summary).SerializeToString())


def main(argv: list[str] | None = None) -> None:
    """Write the event file of one block."""
    parser = Parser("tensorboard", __doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a block")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, named *tfevents*")
    arguments = parser.parse_args(argv)
    write_events(Block(arguments.run), arguments.out)
