"""Data sets decoded once into one file of uint8 images, and read from it onto a device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from intrinsic_lr import dataset_sizes, storage
from intrinsic_lr.dataset_names import SOURCES
from intrinsic_lr.errors import InputError

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

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
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
        return self.normalise(self.train_images[index]), self.train_labels[index]


@dataclass(frozen=True)
class _Split:
    """Images (N, C, H, W) uint8, labels (N,) int64, class names if known, what the first image is called."""

    images: np.ndarray
    labels: np.ndarray
    classes: list[str] | None
    first: str


def write(spec: Mapping[str, Any], name: str, data_path: Path | str, info_path: Path | str) -> dict[str, Any]:
    """Prepare a data set and write it: a safetensors file and the JSON that describes and checks it.

    Returns:
        The description, as `prepare` gives it, with the `sha256` of the data file.
    """
    tensors, info = prepare(spec, name)
    with storage.atomic_path(data_path) as temporary:
        save_file(tensors, temporary)
    info["sha256"] = storage.sha256(data_path)
    storage.write_json(info_path, info)
    return info


def load(data_path: Path | str, info_path: Path | str, device: torch.device | str, dtype: torch.dtype) -> Dataset:
    """Read a prepared data set onto a device; `dtype` is that of the normalised images.

    Raises:
        InputError: when a file is missing, or the data are not those that the description was written for.
    """
    info = storage.read_json(info_path)
    repair = f"snakemake --cores 1 --force {data_path}"
    try:
        digest, mean, std = info["sha256"], info["mean"], info["std"]
    except (KeyError, TypeError):
        raise InputError(
            f"{info_path}: does not describe a data set (sha256, mean or std missing); repair with `{repair}`"
        ) from None
    storage.verify(data_path, digest, repair)
    tensors = load_file(data_path, device=str(device))
    statistics = (torch.tensor(values, dtype=dtype, device=device) for values in (mean, std))
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
        train = _Split(train.images[chosen], train.labels[chosen], train.classes, train.first)
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
    dataset_sizes.check(spec, place)
    for key in ("subset", "image_size"):
        value = spec.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{place}.{key}: found {value!r}; allowed: a whole number from 1 on")


def _check_count(spec: Mapping[str, Any], found: int, place: str) -> None:
    """Refuse data of another size than planned: epochs were turned into steps by the planned one."""
    planned = dataset_sizes.train_count(spec, place)
    if planned is not None and planned != found:
        raise InputError(
            f"{place}: found {found} training images where {planned} were planned with; "
            f"allowed: all {planned} of them, or train_count: {found}"
        )


def _check_images(train: _Split, test: _Split, place: str) -> None:
    for split, title in ((train, "training"), (test, "test")):
        if split.images.dtype != np.uint8:
            raise InputError(f"{place}: {title} pixels of type {split.images.dtype}; allowed: uint8")
        if len(split.images) != len(split.labels) or not len(split.labels):
            raise InputError(
                f"{place}: found {len(split.images)} {title} images and {len(split.labels)} labels; "
                "allowed: one label for each image, and at least one image"
            )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise _sizes_differ(place, train.first, train.images.shape[2:], test.first, test.images.shape[2:])


def _sizes_differ(
    place: str, first: str, first_size: Sequence[int], other: str, other_size: Sequence[int]
) -> InputError:
    sizes = ["x".join(map(str, size[:2])) for size in (first_size, other_size)]
    return InputError(
        f"{place}: found images of different sizes, {first} ({sizes[0]}) and {other} ({sizes[1]}); "
        "allowed: images of one size, or image_size: N to bring all to N x N pixels"
    )


def _classes(train: _Split, test: _Split, place: str) -> list[str]:
    """Return the names of the classes, after checking that the labels count them from 0."""
    if train.classes != test.classes:
        odd = sorted(set(train.classes or ()) ^ set(test.classes or ()))
        raise InputError(
            f"{place}: the class {odd[0] if odd else train.classes!r} is not the same in the training and in "
            "the test images; allowed: the same classes in both"
        )
    both = np.concatenate([train.labels, test.labels])
    classes = train.classes or [str(label) for label in range(int(both.max(initial=-1)) + 1)]
    wrong = both[(both < 0) | (both >= len(classes))]
    if wrong.size:
        raise InputError(f"{place}: found the label {wrong[0]}; allowed: 0 to {len(classes) - 1}")
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


def _read_digits(spec: Mapping[str, Any], place: str) -> tuple[_Split, _Split, str]:
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
            f"{place}.test_fraction: found {fraction!r} ({_reason(error)}); "
            "allowed: a number between 0 and 1 that leaves images of every class on both sides"
        ) from None
    classes = [str(name) for name in digits.target_names]
    train = _Split(train_images, train_labels, classes, "training image 0")
    test = _Split(test_images, test_labels, classes, "test image 0")
    return train, test, "sklearn.datasets.load_digits"


def _read_torchvision(spec: Mapping[str, Any], place: str) -> tuple[_Split, _Split, str]:
    source = SOURCES[spec["dataset"]]
    if spec.get("download") and not source.downloads:
        raise InputError(
            f"{place}.download: found true, but torchvision cannot download {spec['dataset']}; "
            f"allowed: false, with its files put into {str(_folder(spec))!r}"
        )
    train = _torchvision_split(spec, source.train, "training", place)
    test = _torchvision_split(spec, source.test, "test", place)
    return train, test, f"torchvision.datasets.{source.loader}"


def _torchvision_split(spec: Mapping[str, Any], arguments: Mapping[str, Any], title: str, place: str) -> _Split:
    source = SOURCES[spec["dataset"]]
    dataset = _open_torchvision(spec, arguments, place)
    if source.layout and "image_size" not in spec:
        images = _channels_first(np.asarray(dataset.data), source.layout)
        labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
        # QMNIST keeps eight numbers an image, of which the first is the class.
        labels = labels[:, 0] if labels.ndim == 2 else labels
    else:
        images, labels = _decode(dataset, lambda index: f"{title} image {index}", spec, place)
    classes = getattr(dataset, "classes", None)
    if classes is not None:
        names = [", ".join(name) if isinstance(name, tuple) else str(name) for name in classes]
        classes = names[source.first_label :]
    return _Split(images, labels.astype(np.int64) - source.first_label, classes, f"{title} image 0")


def _open_torchvision(spec: Mapping[str, Any], arguments: Mapping[str, Any], place: str) -> Any:
    """Return one split of a torchvision set, or say what is wrong with its files."""
    import torchvision.datasets

    source = SOURCES[spec["dataset"]]
    root, folder = Path(spec["root"]).expanduser(), _folder(spec)
    download = bool(spec.get("download", False))
    remedy = "its whole files there, laid out as torchvision does" + (
        ", or download: true" if source.downloads and not download else ""
    )
    if not download and not folder.is_dir():
        raise InputError(
            f"{place}.root: found no folder {str(folder)!r}; allowed: {spec['dataset']} with {remedy}"
        )
    options = {"download": download} if source.downloads else {}
    try:
        return getattr(torchvision.datasets, source.loader)(str(root), **arguments, **options)
    # The loaders meet damaged files with whatever their parsers raise: RuntimeError, EOFError, KeyError,
    # AssertionError, UnpicklingError and more.
    except Exception as error:
        if not download and any(folder.glob("*.gz")):
            remedy = "the .gz files there unpacked, or download: true"
        attempt = "be downloaded into or read from" if download else "be read from"
        raise InputError(
            f"{place}.root: {spec['dataset']} cannot {attempt} {str(folder)!r} "
            f"({_reason(error)}); allowed: {remedy}"
        ) from None


def _folder(spec: Mapping[str, Any]) -> Path:
    return Path(spec["root"]).expanduser() / SOURCES[spec["dataset"]].folder


def _read_image_folder(spec: Mapping[str, Any], place: str) -> tuple[_Split, _Split, str]:
    train, test = (_folder_split(spec, part, place) for part in ("train", "test"))
    for here, there, lacking in ((train, test, "test"), (test, train, "train")):
        missing = sorted(set(here.classes) - set(there.classes))
        if missing:
            raise InputError(
                f"{place}.root: found no class folder {str(Path(spec['root'], lacking, missing[0]))!r}; "
                "allowed: the same class folders in train and test"
            )
    return train, test, f"image folder {spec['root']}"


def _folder_split(spec: Mapping[str, Any], part: str, place: str) -> _Split:
    from torchvision.datasets import ImageFolder

    root = Path(spec["root"], part)
    try:
        folder = ImageFolder(root, loader=partial(_open_image, mode="L" if spec.get("grayscale") else "RGB"))
    except OSError as error:
        raise InputError(
            f"{place}.root: {str(root)!r} cannot be read ({_reason(error)}); "
            "allowed: a folder for each class with at least one image in it"
        ) from None
    images, labels = _decode(folder, lambda index: folder.samples[index][0], spec, place)
    return _Split(images, labels, folder.classes, folder.samples[0][0])


def _open_image(path: str, mode: str) -> Any:
    from PIL import Image

    with Image.open(path) as image:
        return image.convert(mode)


def _decode(
    dataset: Any, call: Callable[[int], str], spec: Mapping[str, Any], place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Open the images of a torchvision set one by one.

    With `image_size` N the middle of each image, as large a square as fits, is brought to N x N pixels.

    Args:
        dataset: gives pairs of a PIL image and a label.
        call: what to call the image of an index in messages.
        spec: the data set's definition.
        place: where it stands, for messages.

    Returns:
        uint8 (N, C, H, W) and int64 (N,).
    """
    from PIL import Image, ImageOps

    side = spec.get("image_size")
    images, labels = None, np.empty(len(dataset), dtype=np.int64)
    for index in range(len(dataset)):
        try:
            image, label = dataset[index]
            if side is not None:
                image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and others on damaged files.
        except Exception as error:
            raise InputError(
                f"{place}.root: {call(index)} cannot be read ({_reason(error)}); allowed: whole image files"
            ) from None
        if label is None:
            raise InputError(f"{place}.root: {call(index)} has no label; allowed: labelled images only")
        if images is None:
            images = np.empty((len(dataset), *pixels.shape), dtype=np.uint8)
        if pixels.shape != images.shape[1:]:
            raise _sizes_differ(place, call(0), images.shape[1:], call(index), pixels.shape)
        images[index], labels[index] = pixels, label
    if images is None:
        raise InputError(f"{place}.root: found no images; allowed: at least one image in each part")
    return _channels_first(images, "NHW" if images.ndim == 3 else "NHWC"), labels


def _channels_first(images: np.ndarray, layout: str) -> np.ndarray:
    """Return images (N, C, H, W) from one of the layouts NHW, NHWC and NCHW."""
    if layout == "NHW":
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if layout == "NHWC" else images


def _reason(error: Exception) -> str:
    """Return what an error says, on one line and without its advice to Python programmers."""
    text = " ".join(str(error).split()).split(" You can ")[0].rstrip(".")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


_READERS = {"digits": _read_digits, "torchvision": _read_torchvision, "image_folder": _read_image_folder}
