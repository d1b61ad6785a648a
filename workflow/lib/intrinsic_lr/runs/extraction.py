"""What every checkpoint of a block predicts, and its batch-norm statistics recomputed on the training set."""

import shutil
from collections.abc import Mapping

import torch
from torch import Tensor

from intrinsic_lr.core.block_files import EXTRACT, PREDICTIONS, RUN, STATISTICS, step_file
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.locks import alone
from intrinsic_lr.core.progress import progress
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import write_json, write_tensors
from intrinsic_lr.core.version import EXTRACT_VERSION
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.runs.ensembles import Block, checkpoint_sums
from intrinsic_lr.training.evaluation import EvaluationData, by_members, losses, predict, recompute_statistics


def extract_block(block: Block, data: Dataset, device: torch.device) -> None:
    """Write predictions and statistics of every checkpoint; InputError if the block was trained on other data."""
    if data.info["sha256"] != block.record["data"]["sha256"]:
        raise InputError(
            f"{block.folder}: trained on other data than {data.info['name']} holds; "
            f"train again with `{rerun_command(block.folder / RUN)}`"
        )
    model, images, sums = block.build_model(), EvaluationData.of(data), {}
    steps, point = block.plan.checkpoints, block.plan.point
    with alone(block.folder), progress(len(steps), 0, point, unit="checkpoint") as bar:
        for folder in (PREDICTIONS, STATISTICS):
            shutil.rmtree(block.folder / folder, ignore_errors=True)
        for step in steps:
            params = {name: value.to(device) for name, value in block.weights(step).items()}
            parts = by_members(model, params, lambda chunk: _outputs(model, chunk, images))
            for folder, of_parts in zip((PREDICTIONS, STATISTICS), zip(*parts, strict=True), strict=True):
                tensors = {name: torch.cat([part[name] for part in of_parts]) for name in of_parts[0]}
                name = step_file(folder, step)
                sums[name] = write_tensors(block.folder / name, tensors)
            bar.update()
        record = {"extract_version": EXTRACT_VERSION, "checkpoints": checkpoint_sums(block.record), "sha256": sums}
        write_json(block.folder / EXTRACT, record)


def _outputs(
    model: EnsembleModel, params: Mapping[str, Tensor], images: EvaluationData
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return predictions on the test set and batch-norm buffers of some members at one checkpoint."""
    found, _ = recompute_statistics(model, params, images.train_images)
    logits = predict(model, params, found, images.test_images)
    labels = logits.max(dim=-1).indices.masked_fill(~logits.isfinite().all(dim=-1), -1)
    loss = losses(logits, images.test_labels).float()
    means = {f"{norm}.running_mean": layer.mean for norm, layer in found.items()}
    variances = {f"{norm}.running_var": layer.variance for norm, layer in found.items()}
    return {"logits": logits.float(), "labels": labels.to(torch.int16), "losses": loss}, means | variances
