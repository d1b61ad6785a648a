"""Data sets decoded once into one file of uint8 images, and read from it onto a device."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from intrinsic_lr.core import storage
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import arrays, dataset_sizes, image_folder, torchvision_sets
from intrinsic_lr.data.prepared import description
from intrinsic_lr.data.splits import Split, check_sizes, reason

_SEED = 0
_TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Dataset:
    """A data set on a device: images uint8 (N, C, H, W), and labels int64 (N,) from 0 to the classes less one.

    `mean` and `std` (C,) are of pixel/255 over the training images; `info` is what `prepare` tells of the set.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    info: dict[str, Any]

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Return (images/255 - mean)/std per channel: uint8 (..., C, H, W) to the dtype of `mean`."""
        scaled = images.to(self.mean.dtype) / 255
        return (scaled - self.mean[:, None, None]) / self.std[:, None, None]

    def draw(self, members: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a mini-batch of the training set for each member, without replacement, or all of a smaller set.

        Returns normalised images (R, B, C, H, W) and labels (R, B).
        """
        order = [torch.randperm(len(self.train_labels), generator=generator)[:size] for _ in range(members)]
        index = torch.stack(order).to(self.train_labels.device)
        return self.normalize(self.train_images[index]), self.train_labels[index]


def write(
    spec: Mapping[str, Any], name: str, data_path: Path | str, info_path: Path | str, images: str | None = None
) -> dict[str, Any]:
    """Prepare a data set and write it; return the description, which has the `sha256` of the data file too.

    `images`, of a folder or files, is the checksum that `content_sum` gave of them, which the description keeps.
    """
    tensors, info = prepare(spec, name)
    if images:
        info["images"] = images
    with storage.atomic_path(data_path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from None
    info["sha256"] = storage.sha256(data_path)
    storage.write_json(info_path, info)
    return info


def load(data_path: Path | str, info_path: Path | str, device: torch.device | str, dtype: torch.dtype) -> Dataset:
    """Read a prepared data set onto a device; `dtype` is of the normalised images. Raises as `description`."""
    info = description(data_path, info_path)
    tensors = load_file(data_path, device=str(device))
    statistics = (torch.tensor(info[name], dtype=dtype, device=device) for name in ("mean", "std"))
    return Dataset(*(tensors[key] for key in _TENSORS), *statistics, info)


def prepare(spec: Mapping[str, Any], name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a data set of the config, given its definition and its name; digits keep their grey values 0 to 16.

    Returns:
        Tensors `train_images` (N, C, H, W) uint8, `train_labels` (N,) int64, `test_images`, `test_labels`;
        and the description: name, kind, source, classes, shape [C, H, W], train_count, test_count, and mean
        and std [C] of pixel/255 over the training images (population moments, in float64).

    Raises:
        InputError: the data are missing, damaged or unsuitable.
    """
    place = f"config: datasets.{name}"
    planned = dataset_sizes.train_count(spec, place)
    train, test, source = _READERS[spec["kind"]](spec, place)
    check_sizes(place, *((part.name_of(0), part.images[0]) for part in (train, test)))
    classes = _classes(train, test, place)
    if "subset" in spec:
        chosen = _stratified_subset(train.labels, len(classes), spec["subset"], f"{place}.subset")
        train = replace(train, images=train.images[chosen], labels=train.labels[chosen])
    if len(train.labels) != planned:
        # Epochs were converted to steps by the planned number.
        raise InputError(
            f"{place}: expected {planned} training images, got {len(train.labels)}; "
            f"to use these set train_count: {len(train.labels)}"
        )
    arrays = map(np.ascontiguousarray, (train.images, train.labels, test.images, test.labels))
    tensors = dict(zip(_TENSORS, map(torch.from_numpy, arrays), strict=True))
    mean, std = _moments(tensors["train_images"], place)
    info = {"name": name, "kind": spec["kind"], "source": source, "classes": classes}
    info |= {"shape": list(train.images.shape[1:]), "train_count": planned, "test_count": len(test.labels)}
    return tensors, info | {"mean": mean, "std": std}


def _classes(train: Split, test: Split, place: str) -> list[str]:
    """Return the names of the classes; check that the labels count them from 0 and that each has images."""
    if train.classes != test.classes:
        odd = sorted({*train.classes} ^ {*test.classes})
        raise InputError(f"{place}: train and test must have the same classes, got {odd[:3]} in one of them alone")
    count = 1 + max(train.labels.max(), test.labels.max())
    classes = train.classes or [str(label) for label in range(count)]
    if len(classes) < 2:
        raise InputError(f"{place}: must have at least two classes, got only {classes[0]!r}")
    for split, title in ((train, "training"), (test, "test")):
        if len(wrong := np.flatnonzero((split.labels < 0) | (split.labels >= len(classes)))):
            got = f"{split.labels[wrong[0]]} at {split.name_of(wrong[0])}"
            raise InputError(f"{place}: labels must be 0 to {len(classes) - 1}, got {got}")
        if len(missing := np.flatnonzero(np.bincount(split.labels, minlength=len(classes)) == 0)):
            raise InputError(
                f"{place}: no {title} image of the class {classes[missing[0]]!r}; "
                "expected at least one image of each class in train and test"
            )
    return classes


def _stratified_subset(labels: np.ndarray, classes: int, count: int, place: str) -> np.ndarray:
    """Return the sorted indices of `count` images, in each class a share in proportion to its size.

    The images of a class are shuffled. The first of each is taken, then the others in order of (r + 1/2)/n for the
    r-th of n (Sainte-Laguë's method). So every class gives an image, and a smaller subset is part of a larger one.
    """
    if not classes <= count <= len(labels):
        raise InputError(
            f"{place}: must be from {classes} (one image for each class) to {len(labels)} (the training images), "
            f"got {count}"
        )
    # NumPy promises never to change the numbers of RandomState, which it does not for its newer generators.
    order = np.random.RandomState(_SEED).permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]
    sizes, of_class = np.bincount(labels, minlength=classes), labels[grouped]
    ranks = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[of_class]
    keys = np.where(ranks == 0, 0, (ranks + 0.5) / sizes[of_class])
    return np.sort(grouped[np.argsort(keys, kind="stable")[:count]])


def _moments(images: torch.Tensor, place: str) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of pixel/255 per channel, from counts of the 256 values."""
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share = counts / counts.sum()
        if share.max() == 1:
            found = f"every training pixel of channel {channel} is {int(share.argmax())}"
            raise InputError(f"{place}: {found}; expected images that differ")
        means.append((share * value).sum().item())
        deviations.append((share * (value - means[-1]) ** 2).sum().sqrt().item())
    return means, deviations


def _read_digits(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64)
    fraction = spec.get("test_fraction", dataset_sizes.TEST_FRACTION)
    try:
        parts = train_test_split(images, labels, test_size=fraction, stratify=labels, random_state=_SEED)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{place}.test_fraction: must be a number between 0 and 1 that leaves images of every class on both "
            f"sides, got {fraction!r} ({reason(error)})"
        ) from None
    classes = [str(name) for name in digits.target_names]
    train = Split(parts[0], parts[2], classes, "training image {}".format)
    test = Split(parts[1], parts[3], classes, "test image {}".format)
    return train, test, "sklearn.datasets.load_digits"


_READERS = {
    "digits": _read_digits,
    "torchvision": torchvision_sets.read,
    "image_folder": image_folder.read,
    "npz": arrays.read_npz,
    "csv": arrays.read_csv,
}
