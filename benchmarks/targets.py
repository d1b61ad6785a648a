"""What the engine is to reach, and whether it did."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cases import Case

PRERESNETS = ("preresnet8", "preresnet32")


@dataclass(frozen=True)
class Target:
    """A least ratio of the engine's rate to that of another contender.

    Attributes:
        text: what is asked for.
        against: the other contender.
        least: the least ratio, met by every measured case that the target is about.
        device: `cpu` or `cuda`.
        models: the models it is about; none: all.
        batch, replicates, threads: what else a case must have; None: anything.
    """

    text: str
    against: str
    least: float
    device: str
    models: tuple[str, ...] = ()
    batch: int | None = None
    replicates: int | None = None
    threads: int | None = None

    @property
    def names_a_case(self) -> bool:
        """Whether the target is about one size alone."""
        return self.batch is not None and self.replicates is not None

    def is_about(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a case, given by its fields, is one that the target speaks of."""
        return (
            str(row["device"]).startswith(self.device)
            and (not self.models or row["model"] in self.models)
            and all(getattr(self, key) in (None, row[key]) for key in ("batch", "replicates", "threads"))
        )


TARGETS = (
    Target(
        "mlp, 64 replicates, two cores: 12 times a DataLoader", "loader", 12.0,
        "cpu", ("mlp",), batch=32, replicates=64, threads=2,
    ),
    Target(
        "mlp, 64 replicates, two cores: a third of the speed of its products", "products", 1 / 3,
        "cpu", ("mlp",), batch=32, replicates=64, threads=2,
    ),
    Target(
        "cnn4 on 8x8, 64 replicates, two cores: 6 times a DataLoader", "loader", 6.0,
        "cpu", ("cnn4_8x8",), batch=32, replicates=64, threads=2,
    ),
    Target("one replicate: at most 10 % slower than tensors", "tensors", 1 / 1.1, "cpu", replicates=1),
    Target("preresnet: never slower than tensors", "tensors", 1.0, "cpu", PRERESNETS),
    Target(
        "cnn4 on 28x28, 128 replicates, GPU: 30 times tensors", "tensors", 30.0,
        "cuda", ("cnn4_28x28",), batch=128, replicates=128,
    ),
    Target(
        "cnn4 on 28x28, 128 replicates, GPU: 5 times compiled", "compiled", 5.0,
        "cuda", ("cnn4_28x28",), batch=128, replicates=128,
    ),
    Target(
        "PreResNet32, 16 replicates, GPU: 5 times tensors", "tensors", 5.0,
        "cuda", ("preresnet32",), batch=128, replicates=16,
    ),
    Target(
        "PreResNet32, 16 replicates, GPU: 2 times compiled", "compiled", 2.0,
        "cuda", ("preresnet32",), batch=128, replicates=16,
    ),
)  # fmt: skip


def names(case: Case) -> bool:
    """Tell whether a target names exactly this size of ensemble."""
    return any(target.names_a_case and target.is_about(vars(case)) for target in TARGETS)


@dataclass(frozen=True)
class Verdict:
    """Whether a target is reached, in one precision.

    Attributes:
        target: the target.
        precision: of the cases it was judged on; empty where there are none.
        worst: the row of the least ratio; None where there is none.
        cases: number of cases.
    """

    target: Target
    precision: str
    worst: Mapping[str, Any] | None
    cases: int

    @property
    def outcome(self) -> str:
        """`reached`, `not reached` or `not run`."""
        if self.worst is None:
            return "not run"
        return "reached" if self.worst["ratio"] >= self.target.least else "not reached"


def verdicts(rows: Iterable[Mapping[str, Any]]) -> Iterator[Verdict]:
    """Judge every target by rows as `benchmarks.engine` makes them; those without a ratio do not count."""
    measured = [row for row in rows if "ratio" in row]
    for target in TARGETS:
        about = [row for row in measured if row["contender"] == target.against and target.is_about(row)]
        if not about:
            yield Verdict(target, "", None, 0)
        for precision in dict.fromkeys(row["precision"] for row in about):
            found = [row for row in about if row["precision"] == precision]
            yield Verdict(target, precision, min(found, key=lambda row: row["ratio"]), len(found))
