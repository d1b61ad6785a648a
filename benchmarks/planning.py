"""Numbers to plan a run by: how time and memory grow with the networks and their replicates.

Speeds are those that `make estimate` calibrates by, each in a process of its own, whose peak memory counts. As
many run at a time as in the workflow, because trainings beside each other slow each other down.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd

from benchmarks.common import Parser, cores, measure
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.commands import estimate
from intrinsic_lr.commands.estimate import Setting
from intrinsic_lr.data.dataset_sizes import Sizes
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.study.model_spec import ModelSpec

DIGITS = Sizes(1437, 360, (1, 8, 8), 10)
MNIST = Sizes(60000, 10000, (1, 28, 28), 10)
CIFAR10 = Sizes(50000, 10000, (3, 32, 32), 10)
CASES = (
    ("mlp:width=64,depth=2", DIGITS, 32, (1, 4, 16, 64, 256)),
    ("mlp:width=128,depth=2", DIGITS, 32, (16,)),
    ("mlp:width=256,depth=2", DIGITS, 32, (16,)),
    ("cnn4:width=16", DIGITS, 32, (1, 4, 16, 64)),
    ("cnn4:width=32", DIGITS, 32, (16,)),
    ("cnn4:width=64", DIGITS, 32, (16,)),
    ("cnn4:width=16", MNIST, 32, (4, 16)),
    ("cnn4:width=16", MNIST, 128, (4,)),
    ("preresnet:width=16,blocks=1", CIFAR10, 128, (2,)),
    ("preresnet:width=16,blocks=5", CIFAR10, 128, (2,)),
)
"""Network, data set, batch size and replicates."""


def main(argv: list[str]) -> None:
    """Measure every case, print a table and write it to a CSV file."""
    parser = Parser("planning", __doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a training; default 1")
    parser.add_argument("--jobs", type=int, help="trainings at a time; default as many as there are cores for")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default cpu")
    options = parser.parse_args(argv)
    settings = [
        Setting(ModelSpec.from_string(model), sizes, batch, members)
        for model, sizes, batch, replicates in CASES
        for members in replicates
    ]
    with ThreadPoolExecutor(options.jobs or max(1, cores() // options.threads)) as pool:
        rows = list(pool.map(lambda setting: row(setting, options.device, options.threads), settings))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    write_table(table, options.out)


def row(setting: Setting, device: str, threads: int) -> dict[str, Any]:
    """Return the speed of one setting, the size of a member's checkpoint and the peak memory of its process."""
    speed, peak = measure(estimate.measure, setting, device, threads)
    sizes = setting.sizes
    network = build(setting.model, sizes.shape, sizes.classes)
    return {
        "model": setting.model.to_string(), "image": "x".join(map(str, sizes.shape)), "batch": setting.batch_size,
        "replicates": setting.members, "member_steps_per_second": setting.members / speed.step,
        "evaluation_seconds": speed.evaluation, "checkpoint_kb": 4 * network.size / 1e3, "peak_mb": peak / 1e6,
    }  # fmt: skip
