"""What a study will take before anything is trained: member-steps, and bytes on the disk.

Torch is imported only where a network is built: the Snakefile imports this module.
"""

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from intrinsic_lr.core import paths
from intrinsic_lr.core.disk import check_disk, format_bytes, nearest
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.data import dataset_sizes
from intrinsic_lr.data.dataset_sizes import Sizes
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.optimisers import buffer_names
from intrinsic_lr.study.study import Study, Training

if TYPE_CHECKING:
    from intrinsic_lr.models.ensemble import EnsembleModel

ITEM_BYTES = {"float32": 4, "float64": 8}
LABEL_BYTES, LOSS_BYTES, LOGIT_BYTES = 2, 4, 4


@dataclass(frozen=True)
class Budget:
    """What one point's blocks take."""

    training: Training
    sizes: Sizes
    members: int  # replicates in all blocks
    rows: int  # of the history of each
    checkpoint_bytes: int
    kept_bytes: int  # of the last state, from which a longer training goes on
    record_bytes: int  # histories and traces, uncompressed
    prediction_bytes: int  # statistics among them; 0 where nothing reads them

    @property
    def name(self) -> str:
        """The point's name."""
        return self.training.point.name

    @property
    def member_steps(self) -> int:
        """Steps of all members together."""
        return self.members * self.training.timeline.steps

    @property
    def bytes(self) -> int:
        """All that is written."""
        return self.checkpoint_bytes + self.kept_bytes + self.record_bytes + self.prediction_bytes


def known_sizes(study: Study, dataset: str) -> Sizes | None:
    """Return the sizes of a data set: of the prepared one where there is one, else as known beforehand."""
    # A damaged description is no error here: the command that repairs it reads the workflow too.
    with contextlib.suppress(InputError, KeyError):
        found = read_json(paths.DATA_INFO.format(dataset=dataset))
        return Sizes(found["train_count"], found["test_count"], tuple(found["shape"]), len(found["classes"]))
    return dataset_sizes.sizes(study.config["datasets"][dataset], f"config: datasets.{dataset}")


def predicted_points(study: Study) -> set[str]:
    """Return the names of the points whose predictions something reads."""
    reading = [study.with_analysis(name) for name, spec in study.analyses.items() if "predictions" in spec.reads]
    claims = [claim for claim in study.claims if "predictions" in study.catalogue[claim].files]
    reading += map(study.claim_experiments, claims)
    readers = set().union(*reading)
    return {point.name for name in readers for point in study.experiments[name].points}


def budgets(study: Study) -> tuple[list[Budget], list[str]]:
    """Return what every training of a study takes, and the points whose data set's sizes are not known yet.

    Raises:
        InputError: for a network that cannot be trained on its images.
    """
    from intrinsic_lr.models.ensemble import build

    build_once = cache(build)
    predicted = predicted_points(study)
    found, unknown = [], []
    for name, training in study.trainings.items():
        sizes = known_sizes(study, training.point.dataset)
        if sizes is None:
            unknown.append(name)
            continue
        spec = ModelSpec.from_config(study.config["models"][training.point.model])
        try:
            model = build_once(spec, sizes.shape, sizes.classes)
        except InputError as error:
            raise InputError(f"config: models.{training.point.model}: {error}") from None
        buffers = len(buffer_names(study.training_plan(name, 0)))
        found.append(_budget(training, model, sizes, name in predicted, buffers))
    return found, unknown


def _budget(training: Training, model: "EnsembleModel", sizes: Sizes, predicted: bool, buffers: int) -> Budget:
    members = len(training.blocks) * training.block_size
    item, steps = ITEM_BYTES[training.point.dtype], training.timeline.steps
    # The regular rows, and those of checkpoints and of the last step that do not fall on one.
    between = {step for step in (*training.checkpoints, steps) if step % training.log_every}
    rows = steps // training.log_every + 1 + len(between)
    # Groups that would first have to be found are at most as many as the trained weights.
    most_groups = len(model.trainable) if model.spec.kind == "module" else len(model.measured_groups)
    columns = 13 + 2 * most_groups
    traced = steps // training.trace_every + 2
    checkpoints = members * len(training.checkpoints)
    kept = 1 + buffers
    per_image = LOGIT_BYTES * sizes.classes + LABEL_BYTES + LOSS_BYTES
    statistics = 2 * sum(model.norms.values()) * item
    return Budget(
        training,
        sizes,
        members,
        rows,
        checkpoints * model.size * item,
        members * kept * model.size * item,
        members * 8 * (rows * columns + traced * 9),
        checkpoints * (sizes.test * per_image + statistics) if predicted else 0,
    )


def announce(study: Study, blocks: Mapping[str, int], folder: Path) -> str:
    """Return one line on what a run will train and write.

    Args:
        study: the study.
        blocks: how many blocks of each point are to be trained, by the point's name.
        folder: where results are written.

    Raises:
        InputError: when the disk of `folder` has less room than that.
    """
    found, unknown = budgets(study)
    needed = steps = 0.0
    for budget in found:
        share = blocks.get(budget.name, 0) / len(budget.training.blocks)
        needed += budget.bytes * share
        steps += budget.member_steps * share
    count = sum(blocks.values())
    check_disk(folder, round(needed), f"the checkpoints, records and predictions of {count} trainings")
    more = f"; of {len(unknown)} points the size is known only once their data are prepared" if unknown else ""
    room = f"{format_bytes(needed)}, {format_bytes(shutil.disk_usage(nearest(folder)).free)} are free"
    return f"to be trained: {count} blocks, {round(steps):,} member-steps; to be written: {room}{more}"


def wall_seconds(blocks: Iterable[float], jobs: int) -> float:
    """Return how long jobs take that are begun longest first, so many at a time."""
    ends = [0.0] * jobs
    for seconds in sorted(blocks, reverse=True):
        ends[ends.index(min(ends))] += seconds
    return max(ends)
