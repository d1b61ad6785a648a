"""Command line: recompute the batch-norm statistics of every checkpoint and predict the test set."""

import argparse
from pathlib import Path

from intrinsic_lr.core.block_files import CHECKPOINTS, EXTRACT, PREDICTIONS, STATISTICS, key
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.imports import gc_disabled
from intrinsic_lr.core.leases import leased
from intrinsic_lr.core.locks import alone
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.version import EXTRACT_VERSION
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
    with leased(arguments.device, arguments.jobs_per_device) as device:
        _run(arguments, device)


def _run(arguments: argparse.Namespace, device_name: str) -> None:
    with gc_disabled():
        import torch

        from intrinsic_lr.core.storage import sha256, write_json
        from intrinsic_lr.data.dataset import load
        from intrinsic_lr.models.devices import resolve
        from intrinsic_lr.training.loop import DTYPES

    block = Block(arguments.run)
    device = resolve(device_name)
    torch.set_num_threads(arguments.threads)
    data = load(arguments.data, arguments.info, device, DTYPES[block.plan.dtype])
    if data.info["sha256"] != block.record["data"]["sha256"]:
        raise InputError(
            f"{arguments.run}: trained on other data than {arguments.data} holds; "
            f"train again with `{rerun_command(arguments.run / 'run.json')}`"
        )
    with alone(block.folder):
        _extract(block, data, device)
        write_json(
            block.folder / EXTRACT,
            {
                "extract_version": EXTRACT_VERSION,
                "checkpoints_sha256": block.record["sha256"][CHECKPOINTS],
                "sha256": {name: sha256(block.folder / name) for name in (PREDICTIONS, STATISTICS)},
            },
        )


def _extract(block: Block, data, device) -> None:
    """Stream predictions and statistics to their files, checkpoint by checkpoint."""
    import torch

    from intrinsic_lr.core.progress import progress
    from intrinsic_lr.core.storage import TensorWriter, remove_abandoned
    from intrinsic_lr.training.evaluation import EvaluationData, by_members

    model = block.build_model()
    images = EvaluationData.of(data)
    steps = block.plan.checkpoints
    members, count, classes = len(block.replicates), len(images.test_labels), model.classes
    outputs = {
        "logits": (torch.float32, (members, count, classes)),
        "labels": (torch.int16, (members, count)),
        "losses": (torch.float32, (members, count)),
    }
    dtype = images.test_images.dtype
    buffers = {
        f"{norm}.{buffer}": (dtype, (members, channels))
        for norm, channels in (model.norms.items() if model.spec.norm == "batch" else ())
        for buffer in ("running_mean", "running_var")
    }
    for name in (PREDICTIONS, STATISTICS):
        remove_abandoned(block.folder / name)
    with (
        TensorWriter(block.folder / PREDICTIONS, _layout(steps, outputs)) as predictions,
        TensorWriter(block.folder / STATISTICS, _layout(steps, buffers)) as statistics,
        progress(len(steps), 0, f"{block.folder.parent.name}", unit="checkpoint") as shown,
    ):
        for step in steps:
            params = {name: value.to(device) for name, value in block.weights(step).items()}
            parts = by_members(model, params, lambda chunk: _outputs(model, chunk, images))
            for name in outputs:
                predictions.write(key(step, name), torch.cat([part[0][name] for part in parts]))
            for name in buffers:
                statistics.write(key(step, name), torch.cat([part[1][name] for part in parts]))
            shown.update()


def _layout(steps: tuple[int, ...], tensors: dict) -> dict:
    return {key(step, name): layout for step in steps for name, layout in tensors.items()}


def _outputs(model, params: dict, images) -> tuple[dict, dict]:
    """Return predictions on the test set and batch-norm buffers of some members at one checkpoint."""
    import torch

    from intrinsic_lr.training.evaluation import losses, predict, recompute_statistics

    found, _ = recompute_statistics(model, params, images.train_images)
    logits = predict(model, params, found, images.test_images)
    labels = logits.max(dim=-1).indices.masked_fill(~logits.isfinite().all(dim=-1), -1)
    outputs = {
        "logits": logits.float(),
        "labels": labels.to(torch.int16),
        "losses": losses(logits, images.test_labels).float(),
    }
    buffers = {}
    for norm, layer in found.items():
        buffers[f"{norm}.running_mean"] = layer.mean
        buffers[f"{norm}.running_var"] = layer.variance
    return outputs, buffers
