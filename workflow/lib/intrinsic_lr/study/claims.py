"""What is claimed: the statement of each claim, where it is from, and what its test needs from the config.

Read by every job of the workflow, so nothing here imports torch, pandas or numpy. A claim is named as its module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

PAPER = "Li, Lyu, Arora 2020 (arXiv:2010.02916)"
BLOG = "Arora, Li, Lyu 2020, Off the Convex Path, 21 October"
EXP_LR = "Li, Arora 2020 (arXiv:1910.07454)"


@dataclass(frozen=True)
class PaperNumber:
    """A number that a source gives for a claim, and what it ran for it.

    Attributes:
        quantity: what the number is.
        value: the number, or what stands in its place, in the source's terms.
        source: where it stands.
        dataset: what was trained on, in torchvision's name.
        model: the network's kind, with the options that the source gives.
        subset: number of training images; None for all.
        rates: base learning rate and weight decay; None where the source does not give them.
        replicates: number of runs of each setting; 1 where the source does not say.
    """

    quantity: str
    value: str
    source: str
    dataset: str = "CIFAR10"
    model: Mapping[str, str | int] = field(default_factory=lambda: {"kind": "preresnet"})
    subset: int | None = None
    rates: tuple[float, float] | None = None
    replicates: int = 1


@dataclass(frozen=True)
class Setting:
    """A setting of a claim's test that is no threshold.

    Attributes:
        meaning: what it is.
        kind: what it may be, by a name of the `$defs` of the config's schema: `count`, `share`, `texts`, ...
        of_each: another setting, a list, with an entry for each of this list.
        among: another setting, a list that holds this value.
    """

    meaning: str
    kind: str
    of_each: str | None = None
    among: str | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of the study.

    Attributes:
        statement: what is claimed, one sentence.
        source: paper, section or equation, or `derived`.
        refuted_by: what would refute it.
        experiments: for each role that an experiment of the config plays, what it has to hold.
        files: which files of each point's blocks the test reads: `history`, `trace`, `checkpoints`, `predictions`.
        tables: for each role, which tables of its experiment's analyses the test reads (`swa`, `distance_across`).
        reads_data: whether the test reads the data sets of its experiments, or of its setting `dataset`.
        thresholds: for each number that decides, what it means.
        settings: the other settings that the test takes, by name.
        paper: numbers that the sources give, by short ids; `claims/shared/paper.py` measures them.
    """

    statement: str
    source: str
    refuted_by: str
    experiments: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reads_data: bool = False
    thresholds: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    paper: Mapping[str, PaperNumber] = field(default_factory=dict)


_DATASET = Setting("the data set of the mini-batches", "text")
_BATCH_SIZE = Setting("images in a mini-batch", "count")
_USUAL_LENGTH = Setting("the usual length of training, in 1/lambda_e", "positive")
_SETTLED = "from this multiple of 1/lambda_e on a run counts as at equilibrium"
_FULL_BATCH = f"{BLOG}, experiment on full-batch descent"
_SMALL_LR = f"{BLOG}, experiment on small learning rates"
_AVERAGING = f"{BLOG}, experiment on stochastic weight averaging"
_CAPTION = f"{PAPER}, caption of the figure with random schedules"
_RESNET32 = {"kind": "preresnet", "blocks": 5}
_OnMnist = partial(
    PaperNumber, source=f"{BLOG}, MNIST figure", dataset="MNIST", model={"kind": "cnn4"}, rates=(0.1, 5e-4),
    replicates=500,
)  # fmt: skip

CLAIMS: dict[str, Claim] = {
    # The symmetry of the loss, and what follows from it exactly.
    "scale_invariance": Claim(
        "The loss of a normalised network with a fixed head does not depend on the norm of its weights.",
        f"{PAPER}, section 1; derived (F1)",
        "One network, norm or factor with a deviation above the threshold.",
        reads_data=True,
        thresholds={"deviation": "largest relative deviation that counts as rounding"},
        settings={
            "dataset": _DATASET,
            "models": Setting("networks, each of which is tested with batch, group and layer norm", "texts"),
            "factors": Setting("factors c on all trained weights", "positives"),
            "replicates": Setting("initialisations, each with its own mini-batch", "count"),
            "batch_size": _BATCH_SIZE,
        },
    ),
    "nonsmooth_origin": Claim(
        "The loss gets ever less smooth towards the origin: its curvature grows like 1/||w||^2.",
        f"{PAPER}, section 1; derived (F1)",
        "A slope outside the range.",
        reads_data=True,
        thresholds={"slope_margin": "how far the log-log slope may lie from -2"},
        settings={
            "dataset": _DATASET,
            "models": Setting("networks whose curvature is measured", "texts"),
            "factors": Setting("factors on the initial weights, which set the norms", "positives"),
            "replicates": Setting("networks at each norm", "count"),
            "batch_size": _BATCH_SIZE,
            "iterations": Setting("most Lanczos steps", "count"),
            "tolerance": Setting("relative residual at which they end", "positive"),
        },
    ),
    "fixed_head_costs_nothing": Claim(
        "Fixing the last linear layer at its random initialisation costs no test accuracy.",
        BLOG,
        "An interval below the margin.",
        experiments={
            "fixed": "a network with its head fixed, one point with its initial weights kept",
            "trained": "the same with a trained head, one point",
            "convolutional": "a convolutional network, one point with its head fixed and one with it trained",
        },
        files=("history", "checkpoints"),
        reads_data=True,
        thresholds={"margin": "largest loss of mean final test accuracy that counts as none"},
    ),
    "norm_recursion": Claim(
        "The norm follows R' = (1 - lambda_e)^2 R + eta^2 ||g^||^2 / R exactly, step by step.",
        "derived (F6)",
        "A single step with a residual far above rounding.",
        experiments={
            "long": "long runs without momentum",
            "exact": "runs in float64, some with momentum, with a trace of every step",
        },
        files=("history", "trace"),
        reads_data=True,
        thresholds={"epsilons": "largest relative residual, in machine epsilons of the run's dtype"},
        settings={
            "model": Setting("a network with trained scales and shifts, the control", "text"),
            "steps": Setting("steps that it is trained for", "count"),
        },
    ),
    "exp_lr_equivalence": Claim(
        "Weight decay, or an exponentially growing learning rate without it, give the same functions.",
        f"{EXP_LR}, theorems 2.1 and 2.2",
        "A deviation above the threshold in float64.",
        experiments={"runs": "schedules and their ExpLR equivalents on the same batches, in float64 and float32"},
        files=("checkpoints",),
        reads_data=True,
        thresholds={"deviation": "largest distance at unit norm, and relative difference of logits, in float64"},
        settings={
            "originals": Setting("schedules with weight decay", "texts"),
            "twins": Setting("the ExpLR-equivalent schedule of each", "texts", of_each="originals"),
            "uncorrected": Setting("that of the first with a momentum buffer that starts at zero", "text"),
        },
    ),
    "rescaling_equivalence": Claim(
        "At equal intrinsic learning rate another learning rate only rescales the initialisation.",
        f"{PAPER}, section 1; derived (F9)",
        "A deviation above the threshold; an accuracy difference beyond the margin; label distributions that the "
        "permutation test tells apart.",
        experiments={
            "pair": "points and their rescaled partners on the same batches, in float64",
            "mixing": "points at one intrinsic rate and several learning rates, and at a tenfold intrinsic rate",
        },
        files=("checkpoints", "history"),
        reads_data=True,
        thresholds={
            "deviation": "largest distance at unit norm, and relative difference of logits, of an exact pair",
            "accuracy_margin": "difference of late test accuracies that counts as none",
        },
        settings={
            "settled": Setting("from this multiple of 1/lambda_e on test accuracies are averaged", "nonnegative")
        },
    ),
    # Full-batch descent, and what learning rate generalisation needs.
    "gd_toy": Claim(
        "On L = x^2/(x^2+y^2) descent with weight decay ends near lambda_e/2 at every learning rate.",
        f"{BLOG}, toy example; derived (F13)",
        "A late mean that is off at a single pair of rates, or runs that settle.",
        thresholds={
            "ratio_low": "least late mean loss, over lambda_e/2",
            "ratio_high": "largest late mean loss, over lambda_e/2",
            "cycle": "largest relative deviation from the exact cycle, to be rounding",
            "final_loss": "largest last loss of a run that settled once weight decay was off",
            "norm_drift": "largest relative change of its squared norm over the last quarter of that time",
            "share": "least share of runs that hover near lambda_e/2, and that settle without weight decay",
        },
        settings={
            "learning_rates": Setting("learning rates eta, ascending", "positives"),
            "intrinsic_lrs": Setting(
                "intrinsic learning rates lambda_e; below 0.0017 x underflows and is refused", "positives"
            ),
            "starts": Setting("random starts at every pair of rates, fresh ones at each", "count"),
            "length": Setting(
                "time with weight decay, in 1/lambda_e; the late loss is that of the second half", "positive"
            ),
            "length_without": Setting("time after that without weight decay, in 1/lambda_e", "positive"),
        },
    ),
    "gd_never_settles": Claim(
        "Full-batch descent with weight decay never settles, at any learning rate; without it, it does.",
        f"{_FULL_BATCH}; Lyu, Li, Arora 2022 (spherical sharpness)",
        "A learning rate at which the runs stay fitted.",
        experiments={
            "decay": "full-batch descent at several learning rates, decay off at the end",
            "no_decay": "the same learning rates without weight decay from the start",
        },
        files=("history", "trace", "checkpoints"),
        reads_data=True,
        thresholds={
            "low": "training loss (nats) at which a run counts as settled",
            "high": "training loss (nats) above which a settled run counts as destabilised",
            "count": "least number of destabilisations per 1/lambda_e",
            "drop": "largest training loss after weight decay is off, over the mean before",
            "swing": "largest ratio of two training losses in the last half of the time without weight decay",
            "sharpness_low": "least spherical sharpness, over 2 / effective learning rate",
            "sharpness_high": "largest spherical sharpness, over 2 / effective learning rate",
            "norm_loss": "largest relative loss of squared norm in a step without weight decay, to be rounding",
        },
        settings={
            "iterations": Setting("most Hessian-vector products of an eigenvalue", "count"),
            "tolerance": Setting("its relative residual", "positive"),
        },
        paper={
            "fitted": PaperNumber(
                "share of runs that reach 100 % training accuracy while weight decay lasts",
                "1 (the run that is shown)",
                _FULL_BATCH,
                subset=1000,
            ),
            "decay_off": PaperNumber(
                "step at which weight decay is switched off, from which on the loss settles",
                "30,000",
                _FULL_BATCH,
                subset=1000,
            ),
        },
    ),
    "early_stopping_needed": Claim(
        "With weight decay, full-batch descent ends far above the best training loss that it has held.",
        _FULL_BATCH,
        "A ratio near 1 at a single learning rate.",
        experiments={
            "decay": "full-batch descent with weight decay, at several learning rates",
            "no_decay": "full-batch descent without weight decay, the control",
            "sgd": "mini-batch descent at constant rates, reported beside",
        },
        files=("history", "trace"),
        thresholds={"ratio": "least mean late training loss, over the best that the run has held"},
        settings={
            "window": Setting("a loss is held if it is the median over this share of the run", "share"),
            "late": Setting("the late loss is the mean over this last share of the run", "share"),
        },
    ),
    "small_lr_generalises": Claim(
        "A hundred times smaller initial learning rate generalises as well, given more steps.",
        _SMALL_LR,
        "A difference of more than the margin either way.",
        experiments={
            "usual": "the usual learning rate with its decays, one point",
            "small": "a hundred times smaller learning rate, longer and with one more decay, one point",
            "small_short": "the small learning rate with the schedule of the usual one, one point",
        },
        files=("history",),
        thresholds={"margin": "largest difference of mean final test accuracies that counts as none"},
        paper={
            "epochs": PaperNumber(
                "epochs of the small learning rate over those of the usual one", "10 (5,000 epochs)", _SMALL_LR
            ),
            "accuracy": PaperNumber(
                "final test accuracy, small learning rate less usual one", "0 (as well)", _SMALL_LR
            ),
        },
    ),
    # Weight space.
    "swa_within": Claim(
        "Averaging two checkpoints of a trajectory lowers the test loss, long after the usual run time.",
        _AVERAGING,
        "A gain of zero or less at either time.",
        experiments={"run": "one point with checkpoints at the usual length, at ten times it, and at the lags"},
        tables={"run": ("swa",)},
        thresholds={"gain": "least gain in test loss (nats) over the end with the lower mean loss"},
        settings={
            "usual_length": _USUAL_LENGTH,
            "lags": Setting("lags between the two checkpoints, in 1/lambda_e", "positives"),
        },
    ),
    "swa_across": Claim(
        "Averaging the weights of two initialisations does not help.",
        _AVERAGING,
        "Averages better than their ends are on average.",
        experiments={"run": "one point, with checkpoints at the usual length and at ten times it"},
        tables={"run": ("swa",)},
        thresholds={"gain": "largest gain in test loss (nats) over the mean of both ends"},
        settings={
            "usual_length": _USUAL_LENGTH,
            "lags": Setting(
                "lags, in 1/lambda_e, of the averages within a trajectory that are the control", "positives"
            ),
        },
    ),
    "distance_grows": Claim(
        "The distance between two checkpoints of a trajectory keeps growing with their lag.",
        f"{BLOG}, figure of pairwise distances; derived (F11)",
        "Distances that level off within the run.",
        experiments={"run": "one point with checkpoints at short and long lags once the norm is at equilibrium"},
        tables={"run": ("distance", "distance_across")},
        thresholds={
            "growth": "least relative growth of the mean distance from one lag to the next",
            "over_ou": "least squared distance at the longest lag, over what the fitted OU process has there",
            "slope": "least log-log slope of the squared distance over the last half of the lags",
        },
        settings={
            "start": Setting("earliest checkpoint T looked at, in 1/lambda_e", "nonnegative"),
            "long_lag": Setting(
                "T is tested for a plateau where its longest lag is at least this, in 1/lambda_e", "positive"
            ),
            "lag_ratio": Setting("lags closer than this ratio count as one in the test of growth", "positive"),
            "short_lags": Setting("share of the longest lag up to which the OU process is fitted", "share"),
        },
    ),
    "no_mixing_in_weights": Claim(
        "Where function space has mixed, weights of two initialisations still lie apart.",
        f"{PAPER}, section 1; {BLOG}",
        "A cosine across initialisations as large as that within a trajectory, or one within as small as across.",
        experiments={"pairs": "points that differ in their initialisation alone, at each intrinsic rate"},
        files=("checkpoints", "predictions"),
        reads_data=True,
        thresholds={
            "gap": "least cosine within less that across; the ratio of distances is at least 1/sqrt(1 - gap)",
            "mixed": "function space has mixed where the excess share of disagreement is at most this",
        },
        settings={"lag": Setting("lag within a trajectory up to the last checkpoint, in 1/lambda_e", "positive")},
    ),
    # The equilibrium of norm and effective learning rate.
    "norm_equilibrium": Claim(
        "The effective learning rate relaxes to sqrt(2 lambda_e / E||g^||^2) at the rate 4 lambda_e.",
        f"{PAPER}, equation of gamma (F4, F5); Kosson et al. 2024 (angles)",
        "An equilibrium outside its range at small lambda_e; a relaxation at, say, 2 lambda_e; an angle that "
        "depends on the layer.",
        experiments={
            "constant": "constant rates, well into the equilibrium; some points from a larger initialisation",
            "momentum": "the same with momentum",
            "decay": "a decay of the learning rate or the weight decay at equilibrium, followed to the new one",
        },
        files=("history", "trace"),
        thresholds={
            "rest": "how far measured over predicted gamma and effective learning rate may lie from 1",
            "rate": "how far the fitted rate over 4 lambda_e may lie from 1",
            "angle": "how far a layer's angle over the predicted one may lie from 1",
        },
        settings={
            "settled": Setting(_SETTLED, "nonnegative"),
            "followed": Setting("relaxations are fitted up to this multiple of 1/lambda_e", "positive"),
            "relaxed": Setting("a decay is fitted if it was followed to this value of 4 lambda_e t", "positive"),
            "largest_intrinsic_lr": Setting(
                "above it the continuous equation of gamma is shown, not judged", "positive"
            ),
        },
    ),
    "lr_decay_response": Claim(
        "After a decay of the learning rate the effective one drops at once, then climbs to a new rest.",
        f"{PAPER}, equation of gamma; derived (F8)",
        "A drop by another factor, or a course that the measured noise does not explain.",
        experiments={"decay": "one schedule per point, one decay each: learning rate, weight decay, or both"},
        files=("history", "trace"),
        thresholds={
            "drop": "how far the drop of the effective over that of the learning rate may lie from 1",
            "deviation": "largest root mean square of log(measured / predicted) over the response",
            "rest": "largest factor between the final effective learning rate and F8's",
        },
        settings={
            "relaxed": Setting(
                "an end counts as the new equilibrium from this value of 4 lambda_e t on", "positive"
            )
        },
    ),
    "random_pasts": Claim(
        "Runs of different random pasts coincide once they share learning rate and weight decay.",
        f"{PAPER}, figure on CIFAR-10 with random schedules",
        "One history whose runs stay apart by more than the margin.",
        experiments={"pasts": "schedules that differ, then share their rates, then end without weight decay"},
        files=("history", "trace"),
        thresholds={
            "accuracy": "largest difference of accuracy between two histories that counts as none",
            "ratio": "largest log ratio of norms, or of effective learning rates, that counts as none",
        },
        settings={
            "stretch": Setting("means are over this multiple of 1/lambda_e at the end of each phase", "positive"),
            "accuracy_shown": Setting(
                "the range of accuracies that the figure shows, down from the best", "share"
            ),
        },
        paper={
            "end_accuracy": PaperNumber(
                "test accuracy at the very end, mean over the runs of all pasts",
                "about 0.95",
                _CAPTION,
                model=_RESNET32,
            ),
            "end_spread": PaperNumber(
                "test accuracy at the very end, largest difference between two pasts",
                "0 (the same)",
                _CAPTION,
                model=_RESNET32,
            ),
        },
    ),
    "noise_anisotropy": Claim(
        "At equilibrium the gradient noise lies in few directions, far from isotropic.",
        f"{PAPER}, the SDE's covariance Sigma; Malladi et al. 2021",
        "A participation ratio near the attainable dimension, and a top eigenvalue like that of isotropic noise.",
        experiments={"equilibrium": "trajectories with checkpoints at equilibrium"},
        files=("checkpoints",),
        reads_data=True,
        thresholds={
            "share": "largest participation ratio, as a share of the attainable dimension",
            "top": "smallest ratio of the top eigenvalue to that of isotropic noise",
        },
        settings={
            "settled": Setting(_SETTLED, "nonnegative"),
            "checkpoints": Setting("so many checkpoints are looked at, the last ones", "count"),
            "batches": Setting("mini-batch gradients per checkpoint and replicate", "count"),
            "isotropic_draws": Setting("simulations of isotropic noise per checkpoint and replicate", "count"),
        },
    ),
    "linear_scaling": Claim(
        "A k times larger batch and learning rate give the same curve while lambda_e is small.",
        f"{PAPER}, SDE view (F2); Goyal et al. 2017",
        "Curves that differ at small lambda_e, or by as much at small as at large k lambda_e.",
        experiments={"scaling": "pairs with batch size and learning rate in proportion, at several lambda_e"},
        files=("history",),
        thresholds={
            "norm": "largest root mean square log ratio of two curves of the squared norm",
            "loss": "the same of the losses",
        },
    ),
    # Function space.
    "equilibrium_time": Claim(
        "The time to equilibrium is inversely proportional to the intrinsic learning rate.",
        f"{PAPER}, abstract; {BLOG}",
        "A slope outside the range, or curves that pass the same level at times that differ by more than the "
        "factor allowed after scaling.",
        experiments={
            "rates": "two initialisations at four or more intrinsic rates, runs long enough to equilibrate"
        },
        files=("predictions", "trace"),
        settings={
            "levels": Setting("distances to equilibrium at which the rates are compared, as fractions", "shares"),
            "equilibrium": Setting(
                "the one of the levels that counts as equilibrium, whose times give the slopes",
                "share",
                among="levels",
            ),
            "late": Setting("share of a run, at its end, whose mean is the equilibrium of the norm", "share"),
        },
        thresholds={
            "slope_low": "lowest slope of log time against log lambda_e that is near -1",
            "slope_high": "highest slope that is near -1",
            "spread": "largest ratio of two rates' times in units of 1/lambda_e at which the curves collapse",
        },
    ),
    "function_space_mixing": Claim(
        "In function space SGD forgets its initialisation within O(1/lambda_e) steps.",
        f"{PAPER}, abstract; {BLOG}",
        "A p-value below 0.05 after adjustment (initialisations can be told apart), an excess whose interval "
        "leaves out 0, or an excess share above the margin.",
        experiments={
            "mixing": "two initialisations at several intrinsic rates, two of them a factor of ten apart",
            "too_short": "two initialisations at a rate at which the run ends before it has mixed",
            "other_batch": "the first initialisation at one of the rates, with another batch size",
        },
        files=("predictions",),
        reads_data=True,
        thresholds={"excess_share": "share of the disagreement of two runs that their initialisations may cause"},
    ),
    "schedules_same_equilibrium": Claim(
        "Schedules that meet at one intrinsic learning rate reach one distribution of predictions.",
        f"{BLOG}, MNIST figure",
        "A pair that can still be told apart after the rates match, or of whose disagreement the schedules cause "
        "more than the margin.",
        experiments={
            "meeting": "schedules that from one step on have one intrinsic rate, each with its own init_seed",
            "not_meeting": "a schedule that ends at another intrinsic rate, with the same checkpoints",
        },
        files=("history", "predictions"),
        reads_data=True,
        thresholds={"excess_share": "share of the disagreement of two runs that their schedules may cause"},
        paper={
            "meeting": _OnMnist(
                "epoch from which on all schedules that meet have one intrinsic learning rate", "81"
            ),
            "floor": _OnMnist(
                "epoch from which on the l1 distance of all of them stays at its sampling floor "
                "(low: the last checkpoint above it)",
                "after 81",
            ),
        },
    ),
}
