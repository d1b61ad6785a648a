"""What a config may hold: one model for each part, with the type, bounds, meaning and default of every key.

The JSON schema for editors and `docs/configuration.md` are derived from these models by `docs/configuration.py`.
Keys that are required at the top level have their default in `config/config.yaml`, the default study.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from copy import copy
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WrapValidator,
    create_model,
    model_validator,
)

from intrinsic_lr.core.paths import FOLDERS, KINDS
from intrinsic_lr.data.dataset_sizes import TEST_FRACTION
from intrinsic_lr.data.torchvision_sources import SOURCES
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.claims import QUESTIONS
from intrinsic_lr.study.config_files import check_plain, merge_configs
from intrinsic_lr.study.config_types import (
    Allowed,
    Count,
    Depth,
    Duration,
    File,
    Flag,
    Folder,
    Fraction,
    Index,
    Line,
    Many,
    Moments,
    Name,
    Named,
    Part,
    Positive,
    Share,
    Text,
    axis,
    by_kind,
    expect_mapping,
    problem,
    unknown,
    validate,
)
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.optimisers import OPTIONS
from intrinsic_lr.study.points import BatchSize, Point, is_augmentation
from intrinsic_lr.study.schedules import ScheduleConfig, expand_seeds, is_named

FIGURE_FORMATS = ("svg", "pdf", "png")
FIGURE_WIDTHS = {"column": 3.25, "page": 6.75}
"""Inches: one of two columns of a paper's page, and the whole of it."""


def _torchvision(name: str) -> str:
    if name not in SOURCES:
        raise problem(unknown("data set of torchvision", name, SOURCES))
    return name


class _Images(Part):
    """Images of any kind."""

    subset: Count | None = None
    """use this many training images, drawn once, stratified; the test set stays whole"""
    note: Line | None = None
    """where the images come from, such as "JPEG copy", which results carry; changing it remakes nothing"""


class _Files(_Images):
    """Images that lie in files."""

    image_size: Count | None = None
    """bring the middle square of every image to this many pixels a side; needed where sizes differ"""


class Digits(_Images):
    """scikit-learn's 1,797 images of 8x8, embedded."""

    kind: Literal["digits"]
    test_fraction: Fraction = TEST_FRACTION
    """share of the images kept for testing, drawn once, stratified; by default 1,437 train and 360 test"""


class Torchvision(_Files):
    """A set that torchvision has."""

    kind: Literal["torchvision"]
    dataset: Annotated[Text, AfterValidator(_torchvision)]
    """the class, such as `MNIST`, `FashionMNIST`, `CIFAR10`, `SVHN`"""
    root: Folder
    """the folder that holds, or will hold, the data"""
    download: Flag = False
    """`true` downloads into `root` what is missing there, checked by its hash and only when whole; archives that
    were put there by hand are unpacked without a network, and no file is ever replaced"""
    train_count: Count | None = None
    """the number of training images of a set that is not the published one, which would be refused"""


class ImageFolder(_Files):
    """Your own images."""

    kind: Literal["image_folder"]
    root: Folder
    """the folder with `train/<class>/<image>` and `test/<class>/<image>`, in which hidden files are left out and
    other files refused; images are turned as their EXIF orientation says"""
    grayscale: Flag = False
    """`true` reads one channel, not three; an alpha channel is left out, more than 8 bits a channel
    and several frames are refused"""
    train_count: Count | None = None
    """the number of training images, which spares counting the files"""


class Npz(_Images):
    """Your own images as arrays of a NumPy archive."""

    kind: Literal["npz"]
    file: File
    """the archive, with `train_images`, `train_labels`, `test_images`, `test_labels`: images uint8 (N, H, W) or
    (N, C, H, W), labels whole numbers from 0 on"""


class Csv(_Images):
    """Your own images as rows of CSV files."""

    kind: Literal["csv"]
    train: File
    """the training images, with or without a line of headings: a row for each, its label, a whole number from 0
    on, and its pixels from 0 to 255"""
    test: File
    """the test images likewise"""
    shape: Annotated[list[Count], Field(min_length=3, max_length=3), Allowed("[channels, height, width]")]
    """of an image, in the order of its pixels: `[1, 28, 28]`"""


Dataset = by_kind(Digits, Torchvision, ImageFolder, Npz, Csv)

_MLP, _CNN4, _PRERESNET, _VIT = (
    ModelSpec.from_config({"kind": kind}) for kind in ("mlp", "cnn4", "preresnet", "vit")
)


class _Network(Part):
    """What all models have."""

    norm: Literal["batch", "group", "layer"] = _MLP.norm
    """what normalises the activations"""
    groups: Count | None = None
    """with `norm: group` the number of groups, a divisor of the width; by default 8"""
    head: Literal["fixed", "trained"] = _MLP.head
    """the last linear layer: `fixed` at its random initialisation, or `trained`"""
    affine: Flag = _MLP.affine
    """trainable scale and shift after each norm, which breaks full scale invariance"""


class Mlp(_Network):
    """A multi-layer perceptron."""

    kind: Literal["mlp"]
    width: Count = _MLP.width
    """hidden width"""
    depth: Depth = _MLP.depth
    """hidden layers"""


class Cnn4(_Network):
    """Four normalised convolutions."""

    kind: Literal["cnn4"]
    width: Count = _CNN4.width
    """channels of the first stage"""


class PreResNet(_Network):
    """A pre-activation ResNet of 6n+2 layers."""

    kind: Literal["preresnet"]
    width: Count = _PRERESNET.width
    """channels of the first stage"""
    blocks: Depth = _PRERESNET.blocks
    """blocks in each of the three stages, n in 6n+2"""
    final_relu: Flag = _PRERESNET.final_relu
    """a ReLU after the last norm"""


class Vit(Part):
    """A small vision transformer whose weights are all scale-invariant, for images of 8x8 to 32x32."""

    kind: Literal["vit"]
    width: Count = _VIT.width
    """numbers that stand for a patch"""
    depth: Depth = _VIT.depth
    """blocks, each of attention and two linear layers"""
    heads: Count = _VIT.heads
    """attention heads, a divisor of the width"""
    patch: Count = _VIT.patch
    """pixels a side of a patch, a divisor of the image's sides"""
    head: Literal["fixed", "trained"] = _VIT.head
    """the last linear layer: `fixed` at its random initialisation, or `trained`"""


class Module(Part):
    """Any network: a factory of torchvision's, or a function in a Python file of your own."""

    kind: Literal["module"]
    factory: Text
    """`torchvision.models.NAME`, or with `file` the name of a function that returns a `torch.nn.Module`"""
    file: File | None = None
    """a Python file, which is run: name only code that you trust. Its content is a part of what is trained"""
    options: dict[str, Any] = Field({})
    """keyword arguments of the factory, such as `num_classes: 10`"""
    normalise: Flag = False
    """`true` makes the network scale-invariant where it can be, and says in `run.json` what was changed"""


class _Code(Part):
    """A function in a Python file of your own."""

    file: File
    """a Python file, which is run: name only code that you trust. Its content is a part of what is trained"""
    options: dict[str, Any] = Field({})
    """further arguments of the function, by name"""


class OwnOptimiser(_Code):
    """An optimiser of your own: the function `update` of a Python file."""

    state: list[Name] = Field([])
    """names of what it keeps of every weight between two steps: tensors of its shape that begin at 0"""


class OwnAugmentation(_Code):
    """An augmentation of your own: the function `augment` of a Python file."""


def _axes() -> type[Part]:
    """Return the type of a mapping from axis to values: the fields of `Point`, and the third of the rates."""
    hints = {key: _given(hint) for key, hint in get_type_hints(Point, include_extras=True).items()}
    hints["intrinsic_lr"] = Positive
    _, _, meanings = inspect.cleandoc(Point.__doc__).partition("Attributes:\n")
    texts = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)\.", meanings, re.M))
    texts["intrinsic_lr"] = "base intrinsic learning rate lambda_e = eta * lambda, per step"
    axes = {key: (axis(hint) | None, Field(None, description=texts[key])) for key, hint in hints.items()}
    return create_model("Axes", __base__=Part, __doc__="Axes of a grid.", **axes)


def _given(hint: Any) -> Any:
    """Return the type of a value that is given, of one that may be None."""
    inner = [part for part in get_args(hint) if part is not type(None)]
    return inner[0] if type(None) in get_args(hint) else hint


def _in_order(value: Any, read: Callable[[Any], Part]) -> dict[str, list[Any]]:
    """Return the axes that are given, in the order in which they are given: the last one changes fastest."""
    axes = read(value)
    return {key: getattr(axes, key) for key in value if getattr(axes, key) is not None}


Axes = Annotated[_axes(), WrapValidator(_in_order)]


class ExperimentConfig(Part):
    """A selection of points, and the analyses of them."""

    dataset: Text
    """what is trained on; may also be an axis of the grid, as `model` and `batch_size`"""
    model: Text
    """what is trained"""
    batch_size: BatchSize
    """images a step; `full` is full-batch gradient descent"""
    replicates: Count
    """networks per point; they differ in their seeds only"""
    block_size: Count | None = None
    """replicates per block, in place of the study's; whole blocks are trained, so choose a divisor of
    `replicates`. More replicates later mean more blocks and no retraining"""
    length: Duration
    """length of the training"""
    checkpoints: Moments
    """when weights are kept; 0 is the initialisation"""
    history_points: Count = 40
    """about how many rows the history gets besides the checkpoints"""
    trace_points: Annotated[
        Annotated[int, Field(ge=1, le=10**9)] | Literal["all"], Allowed("all, or a whole number from 1 to 1e9")
    ] = 200
    """about how many rows per replicate the trace gets, the cheap record without evaluation; `all` is one every
    step"""
    grid: axis(Axes)
    """a mapping from axis to value or list, whose product is taken; or a list of such mappings, which are joined.
    Exactly two of `lr`, `weight_decay` and `intrinsic_lr` are given, and the third follows"""
    analyses: list[Literal[tuple(ANALYSES)] | Name] = Field([])
    """the analyses, those of your own among them; none where only claims read the experiment"""
    compare: Literal["all", "same_intrinsic_lr"] = "all"
    """pairs of points in the disagreement table"""


def _optional(model: type[Part], name: str) -> type[Part]:
    """Return a model of which every key may be left out."""
    optional = {key: copy(field) for key, field in model.model_fields.items()}
    for field in optional.values():
        field.default = None
    hints = {key: (field.annotation, field) for key, field in optional.items()}
    return create_model(name, __base__=Part, __doc__=model.__doc__, **hints)


Defaults = _optional(ExperimentConfig, "Defaults")


class Threshold(Part):
    """A number that decides."""

    value: Annotated[int | float, Allowed("a number")]
    """the number"""
    because: Annotated[str, Field(min_length=1), Allowed("the reason for the number")]
    """the reason for it, in words; rewording it judges nothing again"""


class OwnAnalysis(Part):
    """An analysis of your own: `measure` and `draw_<name>` in a Python file make a table and a figure."""

    file: File
    """a Python file, which is run: name only code that you trust. An edit makes table and figure again"""
    reads: list[Literal[tuple(KINDS)]]
    """what it reads of every training, besides its record"""
    reads_data: Flag = False
    """whether it reads the data sets too"""
    shows: Line = ""
    """what the figure shows, for its caption"""


class ClaimConfig(Part):
    """How a claim is tested; with `file` a claim of your own, which the keys after it state."""

    experiments: dict[str, Annotated[str, Allowed("the name of an experiment")]] = Field({})
    """for each role of the claim's test an experiment"""
    thresholds: dict[str, Threshold] = Field({})
    """the numbers that decide, by name"""
    settings: dict[str, Any] = Field({})
    """the other settings of the test; `dataset`, `model` and `models` are names of the config"""
    file: File | None = None
    """a Python file with `measure`, `judge` and `draw`, which is run: name only code that you trust"""
    statement: Line | None = None
    """what is claimed; needed with `file`"""
    refuted_by: Line | None = None
    """what would refute it; needed with `file`"""
    source: Line = "this study"
    """where the claim is from"""
    title: Line | None = None
    """the claim in a few words, by default its name"""
    question: Literal[tuple(QUESTIONS)] = "functions"
    """the question among which the report shows it"""
    reads: list[Literal[tuple(KINDS)]] = Field([])
    """what the test reads of every training, besides its record"""
    reads_data: Flag = False
    """whether it reads the data sets of its experiments"""
    needs_invariance: Flag = False
    """whether networks with weights that are not scale-invariant are refused"""

    @model_validator(mode="after")
    def _check(self) -> "ClaimConfig":
        stated = self.model_fields_set - {"experiments", "thresholds", "settings", "file"}
        if self.file is None and stated:
            raise problem(f"expected a file beside it, got none; {_OF_OWN}", f".{min(stated)}")
        for key in ("statement", "refuted_by"):
            if self.file and getattr(self, key) is None:
                raise problem(f"the key {key!r} is missing; {_OF_OWN}")
        return self


_OF_OWN = "a claim of your own has file, statement and refuted_by"


SETTING_TYPES: Mapping[str, TypeAdapter] = {
    kind: TypeAdapter(hint, config=ConfigDict(strict=True))
    for kind, hint in {
        "below_one": Annotated[float, Field(ge=1e-18, lt=1), Allowed("a number above 0, below 1")],
        "count": Count,
        "factor": Annotated[float, Field(ge=1, le=1e18), Allowed("a number from 1 to 1e18")],
        "nonnegative": Annotated[float, Field(ge=0, le=1e18), Allowed("a number from 0 to 1e18")],
        "number": Annotated[float, Field(ge=-1e18, le=1e18), Allowed("a number from -1e18 to 1e18")],
        "positive": Positive,
        "positives": Many[Positive],
        "share": Share,
        "shares": Many[Share],
        "text": Text,
        "texts": Many[Text],
    }.items()
}
"""Types of the thresholds and settings of a claim's test, by the kind that the catalogue of claims gives."""


class Font(Part):
    """The font of all text."""

    family: Annotated[
        Line, Field(max_length=100), Allowed("serif, sans-serif, monospace, or the name of an installed font")
    ]
    """family of the font"""
    size: Annotated[float, Field(ge=4, le=24), Allowed("a number of points from 4 to 24")]
    """points of the labels, to which titles, ticks and legends are in proportion"""


class Figures(Part):
    """Formats, width and font of the figures.

    Figures are vector graphics whose text stays text; drawn twice they have the same bytes. A change here draws
    them again and remakes nothing else.
    """

    formats: list[Literal[FIGURE_FORMATS]]
    """what each figure is written as (`png` with 200 dots an inch); SVG is always written, since the report shows
    it and tables name it"""
    width: Annotated[
        Literal[tuple(FIGURE_WIDTHS)] | Annotated[float, Field(ge=2, le=20)],
        Allowed("column, page, or a number of inches from 2 to 20"),
    ]
    """`page` is 6.75 inches, `column` 3.25 inches, one of two columns of a page; below 5 inches panels stand below
    each other. The scorecard is at least as wide as a page"""
    font: Font
    """the font of all text"""


class Report(Part):
    """The words at the top of the page `report.html`. Changing them makes the page alone again."""

    title: Line | None = None
    """title of the page; by default this project's for the study `default`, and the study's name for others"""
    subtitle: Line | None = None
    """a line below the title"""
    intro: Annotated[str, Field(min_length=1, max_length=5000), Allowed("a text of 5,000 characters")] | None = (
        None
    )
    """what the study is about; paragraphs are separated by an empty line. Text alone: no HTML, no Markdown"""


def _odd(count: int) -> int:
    if count % 2 == 0:
        raise ValueError
    return count


class AnalysisSettings(Part):
    """Settings of the statistics."""

    confidence: Fraction
    """coverage of every interval"""
    permutations: Count
    """permutations of the pooled runs behind each null distribution"""
    bootstrap: Count
    """bootstrap resamples of replicates behind each interval of the disagreement table"""
    interpolation: Annotated[int, Field(ge=1), AfterValidator(_odd), Allowed("an odd whole number from 1 on")]
    """points between two checkpoints at which the loss barrier is looked for"""


def _study_name(name: str) -> str:
    if name in FOLDERS:
        raise problem(f"expected another name than {', '.join(FOLDERS)}, which are folders of results, got {name}")
    return name


_Names = Annotated[Literal["all"] | list[str], Allowed("all, or a list of names")]


class Config(Part):
    """The whole config."""

    extends: Annotated[str, Field(min_length=1), Allowed("the name of a file in config/, or a path")] | None = None
    """the config that this file changes: the name of a file in `config/`, or a path; without it `config.yaml`
    alone"""
    study: Annotated[Name, AfterValidator(_study_name)]
    """the study's name. Tables, figures, claims and the page of `default` go to `results/`, those of any other to
    `results/<study>/`. Trainings and data are shared by all studies"""
    seed: Index
    """every random stream of the study is derived from it and from names"""
    device: Annotated[
        str, Field(pattern="^(auto|cpu|cuda(:[0-9]{1,3})?|mps)$"), Allowed("auto, cpu, cuda, cuda:N or mps")
    ]
    """where trainings run; `auto` is a CUDA device if there is one, otherwise the CPU. Changing it retrains
    nothing"""
    jobs_per_device: Count
    """programs that may share a GPU; each takes a slot by itself, on the GPU with the fewest, and waits while all
    are taken. Run with as many cores as there are slots"""
    threads: Count
    """CPU threads of one training; part of how sums are ordered, so keep it for bit-identical results"""
    block_size: Count
    """replicates trained together as one program; an experiment may set its own"""
    save_every: Annotated[float, Field(ge=0.001, le=1e6), Allowed("a number of seconds from 0.001 to 1e6")]
    """seconds from one saving of a training's state to the next; a training that was stopped goes on from there"""
    retries: Annotated[int, Field(ge=0), Allowed("a whole number from 0 on")]
    """how often a training that failed or was stopped is started again in one run of the workflow"""
    diverged: Literal["keep", "fail"]
    """what becomes of a training with replicates that are not finite any more: `keep` marks them in `run.json` and
    as missing in tables, `fail` fails it"""
    tensorboard: Flag
    """`true` also writes the curves of every training as event files of TensorBoard into `results/tensorboard/`;
    needs `pip install -r envs/requirements-tensorboard.txt`. Changing it retrains nothing"""
    run: _Names
    """the experiments to run"""
    judge: _Names
    """the claims to judge; `all` is every claim whose experiments are run, `[]` none"""
    figures: Figures
    """formats, width and font of the figures"""
    report: Report | None = None
    """the words at the top of the page"""
    analysis: AnalysisSettings
    """settings of the statistics"""
    datasets: Named[Dataset]
    """data sets by name. Every set is decoded once into `results/data/<name>.safetensors`; its sha256, counts,
    mean and standard deviation stand in the `.json` beside it"""
    models: Named[by_kind(Mlp, Cnn4, PreResNet, Vit, Module)]
    """models by name. Any image size and number of channels works; the data set decides them"""
    optimisers: Named[OwnOptimiser] = Field({})
    """optimisers of your own by name, besides those that there are"""
    augmentations: Named[OwnAugmentation] = Field({})
    """augmentations of your own by name"""
    analyses: Named[OwnAnalysis] = Field({})
    """analyses of your own by name; the settings of all stand in `analysis`"""
    schedules: Named[ScheduleConfig]
    """schedules by name. `constant` and names of the form `wd_x_y_lr_z_u` (weight decay divided by 10 at epochs x
    and y, learning rate at epochs z and u) need no definition"""
    defaults: Defaults | None = None
    """what experiments have in common: an experiment has these keys unless it gives others. The axes of `grid`
    here go into every mapping of an experiment's grid that lacks them"""
    experiments: Annotated[Named[ExperimentConfig], Field(min_length=1)]
    """experiments by name. Two experiments that have the same point share its training"""
    claims: Annotated[dict[str, ClaimConfig], BeforeValidator(expect_mapping)]
    """how each claim is tested. Which claims there are, what each one states and what its test takes stands in
    `workflow/lib/intrinsic_lr/study/claims.yaml`; the config names the experiments and sets the numbers that
    decide. A claim left out is not judged, and one of your own is stated here"""

    @model_validator(mode="after")
    def _check(self) -> "Config":
        for name in self.schedules:
            if is_named(name):
                raise problem(f"expected another name than {name!r}, which needs no definition", "schedules")
        for kind, own, known in (
            ("optimisers", self.optimisers, OPTIONS.__contains__),
            ("augmentations", self.augmentations, is_augmentation),
            ("analyses", self.analyses, ANALYSES.__contains__),
        ):
            for name in filter(known, own):
                raise problem(f"expected another name than {name!r}, which the project has", kind)
        for family, members in expand_seeds(self.schedules).items():
            for name in members.keys() & self.schedules.keys():
                raise problem(f"expected another name than {name!r}, which {family!r} stands for", "schedules")
        return self


def read_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], Config]:
    """Return a config with the defaults of its experiments filled in, as plain data and as its types read it.

    Raises:
        InputError: for the first mistake, in one line.
    """
    check_plain(config)
    filled = dict(config)
    defaults, experiments = (config.get(key) for key in ("defaults", "experiments"))
    if isinstance(defaults, Mapping) and isinstance(experiments, Mapping):
        filled["experiments"] = {name: _filled(defaults, own) for name, own in experiments.items()}
    return filled, validate(Config, filled)


def _filled(defaults: Mapping[str, Any], experiment: Any) -> Any:
    if not isinstance(experiment, Mapping):
        return experiment
    filled = merge_configs(defaults, experiment)
    axes, grid = defaults.get("grid"), experiment.get("grid")
    if isinstance(axes, Mapping) and isinstance(grid, list):
        filled["grid"] = [merge_configs(axes, own) if isinstance(own, Mapping) else own for own in grid]
    return filled
