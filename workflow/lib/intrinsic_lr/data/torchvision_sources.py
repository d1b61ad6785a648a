"""torchvision's sets of labelled images that a config can name. No torch, no numpy.

A set is listed when torchvision has labelled training and test images of the same classes; for ImageNet and
Imagenette the validation images are the test set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Splits = tuple[Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Source:
    """How torchvision opens a data set, and the sizes of a whole one by its publication or torchvision's pages."""

    loader: str  # the class in torchvision.datasets
    splits: Splits  # keyword arguments that select the training and the test images
    counts: tuple[int, int]  # training and test images
    # What torchvision downloads below `root` and checks by its MD5; empty where it cannot, or does not check.
    archives: tuple[str, ...] = ()
    # Of an image (C, H, W), where all have one size, and the number of classes.
    shape: tuple[int, int, int] | None = None
    classes: int = 0


def _idx(loader: str, parts: tuple[str, str] = ("train", "t10k"), labels: str = "idx1-ubyte") -> tuple[str, ...]:
    kinds = ("images-idx3-ubyte", f"labels-{labels}")
    return tuple(f"{loader}/raw/{part}-{kind}.gz" for part in parts for kind in kinds)


def _emnist(split: str, counts: tuple[int, int], classes: int) -> Source:
    splits = ({"split": split, "train": True}, {"split": split, "train": False})
    return Source("EMNIST", splits, counts, ("EMNIST/raw/gzip.zip",), _GREY, classes)


_FLAG: Splits = ({"train": True}, {"train": False})
_TEST: Splits = ({"split": "train"}, {"split": "test"})
_TRAINVAL: Splits = ({"split": "trainval"}, {"split": "test"})
_VALIDATION: Splits = ({"split": "train"}, {"split": "val"})
_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
_QMNIST = _idx("QMNIST", ("qmnist-train", "qmnist-test"), "idx2-int")
_GTSRB = tuple(f"gtsrb/GTSRB{name}.zip" for name in ("-Training_fixed", "_Final_Test_Images", "_Final_Test_GT"))
_FLOWERS = tuple(f"flowers-102/{name}" for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat"))
_PETS = ("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz")
_PCAM = tuple(
    f"pcam/camelyonpatch_level_2_split_{part}.h5.gz" for part in ("train_x", "train_y", "test_x", "test_y")
)

SOURCES: Mapping[str, Source] = {
    "MNIST": Source("MNIST", _FLAG, (60_000, 10_000), _idx("MNIST"), _GREY, 10),
    "FashionMNIST": Source("FashionMNIST", _FLAG, (60_000, 10_000), _idx("FashionMNIST"), _GREY, 10),
    "KMNIST": Source("KMNIST", _FLAG, (60_000, 10_000), _idx("KMNIST"), _GREY, 10),
    "QMNIST": Source("QMNIST", _FLAG, (60_000, 60_000), _QMNIST, _GREY, 10),
    "EMNIST-balanced": _emnist("balanced", (112_800, 18_800), 47),
    "EMNIST-byclass": _emnist("byclass", (697_932, 116_323), 62),
    "EMNIST-bymerge": _emnist("bymerge", (697_932, 116_323), 47),
    "EMNIST-digits": _emnist("digits", (240_000, 40_000), 10),
    "EMNIST-letters": _emnist("letters", (124_800, 20_800), 26),
    "EMNIST-mnist": _emnist("mnist", (60_000, 10_000), 10),
    "USPS": Source("USPS", _FLAG, (7_291, 2_007), ("usps.bz2", "usps.t.bz2"), (1, 16, 16), 10),
    "CIFAR10": Source("CIFAR10", _FLAG, (50_000, 10_000), ("cifar-10-python.tar.gz",), _COLOUR, 10),
    "CIFAR100": Source("CIFAR100", _FLAG, (50_000, 10_000), ("cifar-100-python.tar.gz",), _COLOUR, 100),
    "SVHN": Source("SVHN", _TEST, (73_257, 26_032), ("train_32x32.mat", "test_32x32.mat"), _COLOUR, 10),
    "STL10": Source("STL10", _TEST, (5_000, 8_000), ("stl10_binary.tar.gz",), (3, 96, 96), 10),
    "Country211": Source("Country211", _TEST, (31_650, 21_100), ("country211.tgz",)),
    "DTD": Source("DTD", _TEST, (1_880, 1_880), ("dtd/dtd-r1.0.1.tar.gz",)),
    "FER2013": Source("FER2013", _TEST, (28_709, 7_178)),
    "FGVCAircraft": Source("FGVCAircraft", _TRAINVAL, (6_667, 3_333)),
    "Flowers102": Source("Flowers102", _TEST, (1_020, 6_149), _FLOWERS),
    "Food101": Source("Food101", _TEST, (75_750, 25_250), ("food-101.tar.gz",)),
    "GTSRB": Source("GTSRB", _TEST, (26_640, 12_630), _GTSRB),
    "ImageNet": Source("ImageNet", _VALIDATION, (1_281_167, 50_000)),
    "Imagenette": Source("Imagenette", _VALIDATION, (9_469, 3_925), ("imagenette2.tgz",)),
    "OxfordIIITPet": Source("OxfordIIITPet", _TRAINVAL, (3_680, 3_669), _PETS),
    "PCAM": Source("PCAM", _TEST, (262_144, 32_768), _PCAM),
    "RenderedSST2": Source("RenderedSST2", _TEST, (6_920, 1_821), ("rendered-sst2.tgz",)),
    "StanfordCars": Source("StanfordCars", _TEST, (8_144, 8_041)),
}
"""Name in a config -> how torchvision opens it."""
