"""The torchvision data sets that can be named in a config, and how each is opened; needs no torch.

A set is listed when torchvision offers labelled training and test images of one list of classes. Where the
test labels were never published but everyone evaluates on the validation images (ImageNet, Imagenette),
these serve as the test set. Images are taken as torchvision gives them: those of EMNIST are transposed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Source:
    """How torchvision opens a data set.

    Attributes:
        loader: the class in `torchvision.datasets`.
        folder: where below `root` torchvision looks, for messages.
        train: keyword arguments that select the training images.
        test: keyword arguments that select the test images.
        layout: axes of the class's `data` array (`NHW`, `NHWC` or `NCHW`), or an empty text for sets that
            open their images one by one.
        first_label: the label of the first class.
        downloads: whether torchvision can download the set.
    """

    loader: str
    folder: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    layout: str = ""
    first_label: int = 0
    downloads: bool = True


_FLAG = ({"train": True}, {"train": False})
_SPLIT = ({"split": "train"}, {"split": "test"})
_TRAINVAL = ({"split": "trainval"}, {"split": "test"})
_VALIDATION = ({"split": "train"}, {"split": "val"})


def _emnist(split: str, first_label: int = 0) -> Source:
    flags = ({"split": split, **flag} for flag in _FLAG)
    return Source("EMNIST", "EMNIST/raw", *flags, layout="NHW", first_label=first_label)


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "MNIST": Source("MNIST", "MNIST/raw", *_FLAG, layout="NHW"),
        "FashionMNIST": Source("FashionMNIST", "FashionMNIST/raw", *_FLAG, layout="NHW"),
        "KMNIST": Source("KMNIST", "KMNIST/raw", *_FLAG, layout="NHW"),
        "QMNIST": Source("QMNIST", "QMNIST/raw", *_FLAG, layout="NHW"),
        "EMNIST-balanced": _emnist("balanced"),
        "EMNIST-byclass": _emnist("byclass"),
        "EMNIST-bymerge": _emnist("bymerge"),
        "EMNIST-digits": _emnist("digits"),
        "EMNIST-letters": _emnist("letters", first_label=1),
        "EMNIST-mnist": _emnist("mnist"),
        "USPS": Source("USPS", "", *_FLAG, layout="NHW"),
        "CIFAR10": Source("CIFAR10", "cifar-10-batches-py", *_FLAG, layout="NHWC"),
        "CIFAR100": Source("CIFAR100", "cifar-100-python", *_FLAG, layout="NHWC"),
        "SVHN": Source("SVHN", "", *_SPLIT, layout="NCHW"),
        "STL10": Source("STL10", "stl10_binary", *_SPLIT, layout="NCHW"),
        "Country211": Source("Country211", "country211", *_SPLIT),
        "DTD": Source("DTD", "dtd/dtd", *_SPLIT),
        "FER2013": Source("FER2013", "fer2013", *_SPLIT, downloads=False),
        "FGVCAircraft": Source("FGVCAircraft", "fgvc-aircraft-2013b", *_TRAINVAL),
        "Flowers102": Source("Flowers102", "flowers-102", *_SPLIT),
        "Food101": Source("Food101", "food-101", *_SPLIT),
        "GTSRB": Source("GTSRB", "gtsrb", *_SPLIT),
        "ImageNet": Source("ImageNet", "", *_VALIDATION, downloads=False),
        "Imagenette": Source("Imagenette", "imagenette2", *_VALIDATION),
        "OxfordIIITPet": Source("OxfordIIITPet", "oxford-iiit-pet", *_TRAINVAL),
        "PCAM": Source("PCAM", "pcam", *_SPLIT),
        "RenderedSST2": Source("RenderedSST2", "rendered-sst2", *_SPLIT),
        "StanfordCars": Source("StanfordCars", "stanford_cars", *_SPLIT, downloads=False),
    }
)
"""Name in a config -> how torchvision opens it."""

TORCHVISION: tuple[str, ...] = tuple(SOURCES)
"""Names allowed for `dataset` in a data set of kind `torchvision`."""
