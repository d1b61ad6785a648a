"""Small trainings that several tests share: data sets of noise, plans and the words of the commands."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from intrinsic_lr.core import storage
from intrinsic_lr.core.block_files import KEPT, OTHERS
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.timeline import Segment, Timeline

LIBRARY = Path(storage.__file__).parents[2]


def write_noise(folder, name="d", seed=0, counts=(23, 11), channels=1):
    """Write a data set of 6x6 images of noise in 3 classes; return its data file and its description."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for part, count in zip(("train", "test"), counts, strict=True):
        shape = (count, channels, 6, 6)
        tensors[f"{part}_images"] = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        tensors[f"{part}_labels"] = torch.randint(3, (count,), generator=generator)
    folder.mkdir(exist_ok=True)
    data, info = folder / f"{name}.safetensors", folder / f"{name}.json"
    save_file(tensors, data)
    described = {"name": name, "classes": ["a", "b", "c"], "shape": [channels, 6, 6]}
    moments = {"mean": [0.5, 0.4][:channels], "std": [0.3, 0.2][:channels]}
    storage.write_json(info, {**described, **moments, "sha256": storage.sha256(data)})
    return data, info


def timeline(*segments, first_buffer=0.0):
    """Return a timeline of segments (steps, lr, weight decay, growth, ...)."""
    return Timeline(tuple(Segment(*segment) for segment in segments), first_buffer)


def plan(**changes):
    """Return a plan of seven steps with some fields changed; `model` is as a config defines it."""
    settings = {
        "point": "p", "model": {"kind": "mlp", "width": 8}, "timeline": timeline((7, 0.1, 0.05)), "batch_size": 5,
        "checkpoints": (0, 7), "log_every": 3, "trace_every": 2, "replicates": (0, 3), **changes,
    }  # fmt: skip
    return TrainingPlan(**{**settings, "model": ModelSpec.from_config(settings["model"])})


def train_words(plan, files, out, *more):
    """Return the words that train a plan."""
    data, info = map(str, files)
    return ["--plan", plan.to_json(), "--data", data, "--info", info, "--out", str(out), "--device", "cpu", *more]


def extract_words(files, out):
    """Return the words that extract what a block of that folder predicts."""
    return ["--run", str(out), "--data", str(files[0]), "--info", str(files[1]), "--device", "cpu"]


def contents(folder):
    """Return the bytes of all files of a block but its records, which hold times, by their path in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json" and not {KEPT, OTHERS} & {*path.parts}
    }
