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
from intrinsic_lr.data import dataset_sizes, image_folder, torchvision_sets
from intrinsic_lr.data.prepared import description
from intrinsic_lr.data.splits import Split, reason, sizes_differ

_SPLIT_SEED = 0
_SUBSET_SEED = 0
_TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Dataset:
    """A data set on a device.

    Attributes:
        train_images: uint8 (N, C, H, W).
        train_labels: int64 (N,), from 0 to the number of classes less one.
        test_images: uint8 (M, C, H, W).
        test_labels: int64 (M,).
        mean: (C,) of pixel/255 over the training images, in the dtype of the computation.
        std: (C,) likewise, with the divisor N.
        info: the description that lies beside the data file.
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
        """Draw a mini-batch of training images for each member, without replacement.

        Returns:
            Normalised images (R, B, C, H, W) and labels (R, B); the whole training set where it is not larger.
        """
        order = [torch.randperm(len(self.train_labels), generator=generator)[:size] for _ in range(members)]
        index = torch.stack(order).to(self.train_labels.device)
        return self.normalize(self.train_images[index]), self.train_labels[index]


def write(spec: Mapping[str, Any], name: str, data_path: Path | str, info_path: Path | str) -> dict[str, Any]:
    """Prepare a data set and write it: a safetensors file and the JSON that describes and checks it.

    Returns:
        The description, as `prepare` gives it, with the `sha256` of the data file.
    """
    tensors, info = prepare(spec, name)
    with storage.atomic_path(data_path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from None
    info["sha256"] = storage.sha256(data_path)
    storage.write_json(info_path, info)
    return info


def load(data_path: Path | str, info_path: Path | str, device: torch.device | str, dtype: torch.dtype) -> Dataset:
    """Read a prepared data set onto a device; `dtype` is that of the normalised images.

    Raises:
        InputError: when a file is missing, or the data are not those that the description was written for.
    """
    info = description(data_path, info_path)
    tensors = load_file(data_path, device=str(device))
    statistics = (torch.tensor(info[name], dtype=dtype, device=device) for name in ("mean", "std"))
    return Dataset(*(tensors[key] for key in _TENSORS), *statistics, info)


def prepare(spec: Mapping[str, Any], name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a data set; digits keep their 17 grey values 0 to 16.

    Args:
        spec: its definition in the config: `kind` (`digits`, `torchvision` or `image_folder`) and options.
        name: its name in the config, for messages and the description.

    Returns:
        Tensors `train_images` (N, C, H, W) uint8, `train_labels` (N,) int64, `test_images`, `test_labels`;
        and the description: name, kind, source, classes, shape [C, H, W], train_count, test_count, and mean
        and std [C] of pixel/255 over the training images (population moments, to rounding in float64).

    Raises:
        InputError: when the definition is wrong, or the data are missing, damaged or unsuitable.
    """
    place = f"config: datasets.{name}"
    _check(spec, place)
    train, test, source = _READERS[spec["kind"]](spec, place)
    _check_images(train, test, place)
    classes = _classes(train, test, place)
    if "subset" in spec:
        chosen = _stratified_subset(train.labels, len(classes), spec["subset"], f"{place}.subset")
        train = replace(train, images=train.images[chosen], labels=train.labels[chosen])
    _check_count(spec, len(train.labels), place)
    arrays = (train.images, train.labels, test.images, test.labels)
    tensors = {
        key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in zip(_TENSORS, arrays, strict=True)
    }
    mean, std = _moments(tensors["train_images"], place)
    info = {
        "name": name,
        "kind": spec["kind"],
        "source": source,
        "classes": classes,
        "shape": list(train.images.shape[1:]),
        "train_count": len(train.labels),
        "test_count": len(test.labels),
        "mean": mean,
        "std": std,
    }
    return tensors, info


def _check(spec: Mapping[str, Any], place: str) -> None:
    kind = spec.get("kind") if isinstance(spec, Mapping) else None
    if kind not in _READERS:
        raise InputError(f"{place}.kind: found {kind!r}; allowed: {', '.join(_READERS)}")
    if not isinstance(root := spec.get("root", ""), str) or "\0" in root:
        raise InputError(f"{place}.root: found {root!r}; allowed: a folder")
    dataset_sizes.check(spec, place)
    for key in ("subset", "image_size"):
        value = spec.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{place}.{key}: found {value!r}; allowed: a whole number from 1 on")


def _check_count(spec: Mapping[str, Any], found: int, place: str) -> None:
    """Refuse data of another size than planned: epochs were turned into steps by the planned one."""
    planned = dataset_sizes.train_count(spec, place)
    if planned != found:
        raise InputError(
            f"{place}: found {found} training images where {planned} were planned with; "
            f"allowed: all {planned} of them, or train_count: {found}"
        )


def _check_images(train: Split, test: Split, place: str) -> None:
    for split, title in ((train, "training"), (test, "test")):
        if split.images.dtype != np.uint8:
            raise InputError(f"{place}: {title} pixels of type {split.images.dtype}; allowed: uint8")
        if len(split.images) != len(split.labels) or not len(split.labels):
            raise InputError(
                f"{place}: found {len(split.images)} {title} images and {len(split.labels)} labels; "
                "allowed: one label for each image, and at least one image"
            )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise sizes_differ(place, train.call(0), train.images.shape[1:], test.call(0), test.images.shape[1:])


def _classes(train: Split, test: Split, place: str) -> list[str]:
    """Return the names of the classes, after checking that the labels count them from 0 and none is absent."""
    if train.classes != test.classes:
        odd = sorted(set(train.classes or ()) ^ set(test.classes or ()))
        raise InputError(
            f"{place}: the class {odd[0] if odd else train.classes!r} is not the same in the training and in "
            "the test images; allowed: the same classes in both"
        )
    count = 1 + max(int(split.labels.max()) for split in (train, test))
    classes = train.classes or [str(label) for label in range(count)]
    if len(classes) < 2:
        raise InputError(f"{place}: found the one class {classes[0]!r}; allowed: at least two")
    for split, title in ((train, "training"), (test, "test")):
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= len(classes)))
        if wrong.size:
            raise InputError(
                f"{place}: found the label {split.labels[wrong[0]]} at {split.call(wrong[0])}; "
                f"allowed: 0 to {len(classes) - 1}"
            )
        lacking = np.flatnonzero(np.bincount(split.labels, minlength=len(classes)) == 0)
        if lacking.size:
            raise InputError(
                f"{place}: found no {title} image of the class {classes[lacking[0]]!r}; "
                "allowed: at least one image of each class in train and test"
            )
    return classes


def _stratified_subset(labels: np.ndarray, classes: int, count: int, place: str) -> np.ndarray:
    """Return the sorted indices of `count` images, spread over the classes in proportion to their sizes.

    Within a class the images are shuffled; the first always comes in, and a later one in order of
    (r + 1/2)/n for the r-th of n (Sainte-Laguë's method of allotting seats). So every class gives at least
    one image, and a smaller subset lies within a larger one.
    """
    if not classes <= count <= len(labels):
        raise InputError(
            f"{place}: found {count}; allowed: from {classes} (one image for each class) to {len(labels)} "
            "(the training images)"
        )
    # NumPy promises never to change the numbers of RandomState, which it does not for its newer generators.
    order = np.random.RandomState(_SUBSET_SEED).permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels, minlength=classes)
    starts = np.cumsum(sizes) - sizes
    of_class = labels[grouped]
    ranks = np.arange(len(labels)) - starts[of_class]
    keys = np.where(ranks == 0, 0, (ranks + 0.5) / sizes[of_class])
    return np.sort(grouped[np.argsort(keys, kind="stable")[:count]])


def _moments(images: torch.Tensor, place: str) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of pixel/255 per channel, from counts of the 256 values."""
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        share = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean = (share * value).sum()
        deviation = (share * (value - mean) ** 2).sum().sqrt()
        if share.max() == 1:
            raise InputError(
                f"{place}: every training pixel of channel {channel} is {int(share.argmax())}; "
                "allowed: images that differ"
            )
        means.append(mean.item())
        deviations.append(deviation.item())
    return means, deviations


def _read_digits(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    fraction = spec.get("test_fraction", dataset_sizes.TEST_FRACTION)
    try:
        train_images, test_images, train_labels, test_labels = train_test_split(
            images, labels, test_size=float(fraction), stratify=labels, random_state=_SPLIT_SEED
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{place}.test_fraction: found {fraction!r} ({reason(error)}); "
            "allowed: a number between 0 and 1 that leaves images of every class on both sides"
        ) from None
    classes = [str(name) for name in digits.target_names]
    train = Split(train_images, train_labels, classes, lambda index: f"training image {index}")
    test = Split(test_images, test_labels, classes, lambda index: f"test image {index}")
    return train, test, "sklearn.datasets.load_digits"


_READERS = {"digits": _read_digits, "torchvision": torchvision_sets.read, "image_folder": image_folder.read}
