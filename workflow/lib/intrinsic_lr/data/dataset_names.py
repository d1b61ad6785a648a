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
    """How torchvision opens a data set, and what a whole one holds.

    Attributes:
        loader: the class in `torchvision.datasets`.
        folder: where below `root` torchvision looks.
        train: keyword arguments that select the training images.
        test: keyword arguments that select the test images.
        counts: numbers of training and of test images, as the set's publication or torchvision's documentation
            has them.
        layout: axes of the class's `data` array (`NHW`, `NHWC` or `NCHW`), or an empty text for sets that
            open their images one by one.
        first_label: the label of the first class.
        idx: the IDX files that the set consists of, below `folder`; empty for sets of other formats.
        origin: the address below which the archives lie.
        archives: the files that torchvision downloads and checks by their MD5, below `root`; empty for sets
            that it cannot download, or (FGVCAircraft) would download unchecked.
    """

    loader: str
    folder: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    counts: tuple[int, int]
    layout: str = ""
    first_label: int = 0
    idx: tuple[str, ...] = ()
    origin: str = ""
    archives: tuple[str, ...] = ()

    @property
    def downloads(self) -> bool:
        """Whether the set can be downloaded."""
        return bool(self.archives)


_FLAG = ({"train": True}, {"train": False})
_SPLIT = ({"split": "train"}, {"split": "test"})
_TRAINVAL = ({"split": "trainval"}, {"split": "test"})
_VALIDATION = ({"split": "train"}, {"split": "val"})
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"


def _idx(loader: str, origin: str, prefixes: tuple[str, str], labels: str, counts: tuple[int, int]) -> Source:
    folder = f"{loader}/raw"
    files = tuple(f"{prefix}-{part}" for prefix in prefixes for part in ("images-idx3-ubyte", labels))
    packed = tuple(f"{folder}/{file}.gz" for file in files)
    return Source(loader, folder, *_FLAG, counts, layout="NHW", idx=files, origin=origin, archives=packed)


def _mnist(loader: str, origin: str) -> Source:
    return _idx(loader, origin, ("train", "t10k"), "labels-idx1-ubyte", (60_000, 10_000))


def _emnist(split: str, counts: tuple[int, int], first_label: int = 0) -> Source:
    parts = [f"emnist-{split}-{part}" for part in ("train", "test")]
    return Source(
        "EMNIST",
        "EMNIST/raw",
        *({"split": split, **flag} for flag in _FLAG),
        counts,
        layout="NHW",
        first_label=first_label,
        idx=tuple(f"{part}-{kind}-ubyte" for part in parts for kind in ("images-idx3", "labels-idx1")),
        origin="https://biometrics.nist.gov/cs_links/EMNIST/",
        archives=("EMNIST/raw/gzip.zip",),
    )


def _cifar(loader: str, folder: str, archive: str) -> Source:
    origin = "https://www.cs.toronto.edu/~kriz/"
    return Source(loader, folder, *_FLAG, (50_000, 10_000), layout="NHWC", origin=origin, archives=(archive,))


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "MNIST": _mnist("MNIST", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        "FashionMNIST": _mnist("FashionMNIST", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        "KMNIST": _mnist("KMNIST", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
        "QMNIST": _idx(
            "QMNIST",
            "https://raw.githubusercontent.com/facebookresearch/qmnist/master/",
            ("qmnist-train", "qmnist-test"),
            "labels-idx2-int",
            (60_000, 60_000),
        ),
        "EMNIST-balanced": _emnist("balanced", (112_800, 18_800)),
        "EMNIST-byclass": _emnist("byclass", (697_932, 116_323)),
        "EMNIST-bymerge": _emnist("bymerge", (697_932, 116_323)),
        "EMNIST-digits": _emnist("digits", (240_000, 40_000)),
        "EMNIST-letters": _emnist("letters", (124_800, 20_800), first_label=1),
        "EMNIST-mnist": _emnist("mnist", (60_000, 10_000)),
        "USPS": Source(
            "USPS",
            "",
            *_FLAG,
            (7_291, 2_007),
            layout="NHW",
            origin="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",
            archives=("usps.bz2", "usps.t.bz2"),
        ),
        "CIFAR10": _cifar("CIFAR10", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
        "CIFAR100": _cifar("CIFAR100", "cifar-100-python", "cifar-100-python.tar.gz"),
        "SVHN": Source(
            "SVHN",
            "",
            *_SPLIT,
            (73_257, 26_032),
            layout="NCHW",
            origin="http://ufldl.stanford.edu/housenumbers/",
            archives=("train_32x32.mat", "test_32x32.mat"),
        ),
        "STL10": Source(
            "STL10",
            "stl10_binary",
            *_SPLIT,
            (5_000, 8_000),
            layout="NCHW",
            origin="http://ai.stanford.edu/~acoates/stl10/",
            archives=("stl10_binary.tar.gz",),
        ),
        "Country211": Source(
            "Country211",
            "country211",
            *_SPLIT,
            (31_650, 21_100),
            origin="https://openaipublic.azureedge.net/clip/data/",
            archives=("country211.tgz",),
        ),
        "DTD": Source(
            "DTD",
            "dtd/dtd",
            *_SPLIT,
            (1_880, 1_880),
            origin=f"{_OXFORD}/dtd/download/",
            archives=("dtd/dtd-r1.0.1.tar.gz",),
        ),
        "FER2013": Source("FER2013", "fer2013", *_SPLIT, (28_709, 7_178)),
        "FGVCAircraft": Source("FGVCAircraft", "fgvc-aircraft-2013b", *_TRAINVAL, (6_667, 3_333)),
        "Flowers102": Source(
            "Flowers102",
            "flowers-102",
            *_SPLIT,
            (1_020, 6_149),
            origin=f"{_OXFORD}/flowers/102/",
            archives=tuple(f"flowers-102/{file}" for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        ),
        "Food101": Source(
            "Food101",
            "food-101",
            *_SPLIT,
            (75_750, 25_250),
            origin="http://data.vision.ee.ethz.ch/cvl/",
            archives=("food-101.tar.gz",),
        ),
        "GTSRB": Source(
            "GTSRB",
            "gtsrb",
            *_SPLIT,
            (26_640, 12_630),
            origin="https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/",
            archives=tuple(
                f"gtsrb/GTSRB{part}.zip" for part in ("-Training_fixed", "_Final_Test_Images", "_Final_Test_GT")
            ),
        ),
        "ImageNet": Source("ImageNet", "", *_VALIDATION, (1_281_167, 50_000)),
        "Imagenette": Source(
            "Imagenette",
            "imagenette2",
            *_VALIDATION,
            (9_469, 3_925),
            origin="https://s3.amazonaws.com/fast-ai-imageclas/",
            archives=("imagenette2.tgz",),
        ),
        "OxfordIIITPet": Source(
            "OxfordIIITPet",
            "oxford-iiit-pet",
            *_TRAINVAL,
            (3_680, 3_669),
            origin=f"{_OXFORD}/pets/data/",
            archives=("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz"),
        ),
        "PCAM": Source(
            "PCAM",
            "pcam",
            *_SPLIT,
            (262_144, 32_768),
            origin="Google Drive",
            archives=tuple(
                f"pcam/camelyonpatch_level_2_split_{part}_{kind}.h5.gz"
                for part in ("train", "test")
                for kind in ("x", "y")
            ),
        ),
        "RenderedSST2": Source(
            "RenderedSST2",
            "rendered-sst2",
            *_SPLIT,
            (6_920, 1_821),
            origin="https://openaipublic.azureedge.net/clip/data/",
            archives=("rendered-sst2.tgz",),
        ),
        "StanfordCars": Source("StanfordCars", "stanford_cars", *_SPLIT, (8_144, 8_041)),
    }
)
"""Name in a config -> how torchvision opens it."""

TORCHVISION: tuple[str, ...] = tuple(SOURCES)
"""Names allowed for `dataset` in a data set of kind `torchvision`."""
