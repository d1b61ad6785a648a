"""What each claim needs of its experiments: one that does not suit it is refused before anything is trained.

Needed is what its test can be computed from, and something for every criterion to judge. A control that an
experiment does not hold is no mistake: the claim then is inconclusive, or not reproduced.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations
from typing import Any

from intrinsic_lr.core.errors import InputError, prefixed
from intrinsic_lr.study import pairs
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.model_spec import MATCHED_KINDS, ModelSpec
from intrinsic_lr.study.timeline import Timeline

Needs = Iterable[tuple[str, bool, str]]
"""A role, whether its experiment has what is needed, and what that is."""


@dataclass(frozen=True)
class Design:
    """The experiments of a claim as they are planned."""

    roles: Mapping[str, Experiment]
    settings: Mapping[str, Any]  # of the claim
    models: Mapping[str, ModelSpec]  # by the name that points have
    timelines: Mapping[str, Timeline]  # of trainings, by the point's name

    def points(self, role: str) -> Sequence[PlannedPoint]:
        """Return the points of a role's experiment."""
        return self.roles[role].points

    def timeline(self, point: PlannedPoint) -> Timeline:
        """Return the rates of a point; InputError where only code of the user's knows them."""
        timeline = self.timelines[point.name]
        if timeline.code:
            raise InputError(
                f": expected schedules whose rates are known beforehand, got {point.schedule!r} of "
                f"{timeline.code.file}; leave the claim out of judge"
            )
        return timeline.truncated(point.length)

    def rates(self, point: PlannedPoint) -> list[tuple[float, float]]:
        """Return learning rate and weight decay at the first step of each segment, and at the last step."""
        timeline = self.timeline(point)
        starts = [0]
        for segment in timeline.segments:
            starts.append(starts[-1] + segment.steps)
        return [timeline.at(step) for step in [*starts[:-1], point.length - 1]]


def check_needs(claim: str, design: Design) -> None:
    """Refuse an experiment that lacks what a claim compares."""
    with prefixed(f"config: claims.{claim}"):
        for role, there, needed in NEEDS.get(claim, _nothing)(design):
            if not there:
                name = design.roles[role].name
                raise InputError(
                    f".experiments.{role}: expected one with {needed}, got {name!r}; change it, or leave the "
                    "claim out of judge"
                )


def _nothing(design: Design) -> Needs:
    return []


def _single(design: Design) -> Needs:
    return [(role, len(design.points(role)) == 1, "exactly one point") for role in design.roles]


def _full(points: Sequence[PlannedPoint]) -> bool:
    return all(point.batch_size == "full" for point in points)


def _mini(points: Sequence[PlannedPoint]) -> bool:
    return not any(point.batch_size == "full" for point in points)


def _decaying(points: Sequence[PlannedPoint]) -> bool:
    return all(point.weight_decay > 0 for point in points)


def _sgd(points: Sequence[PlannedPoint]) -> bool:
    return all(point.optimiser == "sgd" for point in points)


def _independent(compared: Iterable[pairs.Pair]) -> bool:
    return not any(pairs.paired(a, b) for a, b in compared)


def _fixed_head(design: Design) -> Needs:
    def heads(role: str) -> list[str]:
        found = [design.models[point.model].head for point in design.points(role)]
        return sorted("trained" if head == "trained" else "fixed" for head in found)

    yield "fixed", heads("fixed") == ["fixed"], "exactly one point, its head fixed"
    yield "trained", heads("trained") == ["trained"], "exactly one point, its head trained"
    both = heads("convolutional") == ["fixed", "trained"]
    yield "convolutional", both, "exactly two points, one with its head fixed and one with it trained"


def _norm_recursion(design: Design) -> Needs:
    long, exact = design.points("long"), design.points("exact")
    for role, points in (("long", long), ("exact", exact)):
        yield role, all(point.constraint == "none" for point in points), "no constraint on the norms"
        yield role, _sgd(points), "sgd at every point"
    still = [point for point in (*long, *exact) if point.momentum == 0]
    yield "long", any(point.dtype == "float32" for point in still), "a point in float32 without momentum"
    yield "exact", any(point.dtype == "float64" for point in still), "a point in float64 without momentum"
    yield "exact", _mini(exact[:1]), "mini-batches at its first point"


def _exp_lr(design: Design) -> Needs:
    settings, points = design.settings, design.points("runs")
    exact = [point for point in points if point.dtype == "float64"]
    for partners in zip(settings["originals"], settings["equivalents"], strict=True):
        words = f"points in float64 that differ in the schedule alone, {partners[0]} and {partners[1]}"
        yield "runs", bool(pairs.pairs_of_schedules(exact, [partners])), words


def _rescaling(design: Design, optimiser: str = "sgd") -> Needs:
    words = "a point and its partner of rescaled rates and weights"
    yield "pair", any(pairs.rescaled(design.points("pair"))), words
    for role in design.roles:
        alike = all(point.optimiser == optimiser for point in design.points(role))
        yield role, alike, f"{optimiser} at every point"
    mixing = design.points("mixing")
    found = {relation for _, _, relation in pairs.equal_rates(mixing)}
    yield "mixing", pairs.SAME in found, "two learning rates at one intrinsic rate"
    independent = _independent((a, b) for a, b, _ in pairs.equal_rates(mixing))
    yield "mixing", independent, "init_sharing: shared, and no common data_order"
    settled = design.settings["settled"]
    late = all(point.length * point.intrinsic_lr >= settled for point in mixing)
    yield "mixing", late, f"a length of at least {settled:g}/lambda_e"


def _descent(design: Design) -> Needs:
    for role, decays in (("decay", True), ("no_decay", False)):
        points = design.points(role)
        words = "weight decay" if decays else "no weight decay"
        alike = all((point.weight_decay > 0) == decays for point in points)
        yield role, _full(points) and alike, f"full batches and {words} at every point"


def _never_settles(design: Design) -> Needs:
    yield from _descent(design)
    ends = [design.rates(point)[-1][1] for point in design.points("decay")]
    yield "decay", not any(ends), "schedules that end without weight decay"


def _early_stopping(design: Design) -> Needs:
    yield from _descent(design)
    yield "sgd", _mini(design.points("sgd")), "mini-batches at every point"


def _small_lr(design: Design) -> Needs:
    yield from _single(design)
    (usual,) = design.points("usual")
    for role in ("small", "small_short"):
        (small,) = design.points(role)
        hundredth = abs(100 * small.lr / usual.lr - 1) < 1e-6
        yield role, hundredth, f"a learning rate a hundred times smaller than that of the role usual, {usual.lr:g}"


def _averages(design: Design) -> Needs:
    experiment, settings = design.roles["run"], design.settings
    yield "run", _decaying(experiment.points), "weight decay at every point"
    usual = settings["usual_length"]
    for time in [run + lag for run in (usual, 10 * usual) for lag in (0, *settings["lags"])]:
        there = all(point.checkpoint_at(time) is not None for point in experiment.points)
        yield "run", there, f"a checkpoint at {time:g}/lambda_e at every point"
    several = any(point.initialisation(experiment.replicates - 1) > 0 for point in experiment.points)
    several = several or bool(pairs.initialisations(experiment.points))
    yield "run", several, "two networks of different initialisations"


def _adamw_averages(design: Design) -> Needs:
    yield "run", all(point.optimiser == "adamw" for point in design.points("run")), "adamw at every point"
    yield from _averages(design)


def _averages_across(design: Design) -> Needs:
    yield from _averages(design)
    yield from _several_starts(design, "rates")
    yield from _matchable(design)


def _several_starts(design: Design, role: str) -> Needs:
    points = design.points(role)
    several = any(point.initialisation(design.roles[role].replicates - 1) > 0 for point in points)
    words = "two points that differ in init_seed alone, or several initialisations at a point"
    yield role, several or bool(pairs.initialisations(points)), words
    yield role, _decaying(points), "weight decay at every point"


def _matchable(design: Design) -> Needs:
    """Networks whose hidden units can be matched."""
    for role in design.roles:
        kinds = {design.models[point.model].kind for point in design.points(role)}
        words = f"networks whose hidden units can be matched, of the kinds {', '.join(MATCHED_KINDS)}"
        yield role, kinds <= set(MATCHED_KINDS), words


def _distance(design: Design) -> Needs:
    yield from _single(design)
    yield "run", _decaying(design.points("run")), "weight decay"


def _no_mixing(design: Design) -> Needs:
    yield from _repeated(design, "pairs")
    yield from _matchable(design)
    yield "pairs", min(len(point.steps) for point in design.points("pairs")) > 1, "two checkpoints or more"


def _norm_equilibrium(design: Design) -> Needs:
    slow = design.settings["largest_intrinsic_lr"] * (1 + 1e-9)
    for role in ("constant", "momentum", "decay"):
        yield role, _sgd(design.points(role)), "sgd at every point"
        yield role, _decaying(design.points(role)), "weight decay at every point"
    resting = [p for p in design.points("constant") if p.momentum == 0 and p.intrinsic_lr <= slow]
    yield "constant", bool(resting), f"a point without momentum whose lambda_e is at most {slow:.3g}"
    larger = any(point.init_scale != 1 for point in resting)
    yield "constant", larger, "such a point with another init_scale than 1"
    yield "decay", all(_ends_positive(design, point) for point in design.points("decay")), _ONE_DECAY


_ONE_DECAY = "schedules that change their rates, to ones above 0"


def _ends_positive(design: Design, point: PlannedPoint) -> bool:
    first, *_, last = design.rates(point)
    return first != last and min(last) > 0


def _adamw_equilibrium(design: Design) -> Needs:
    for role, optimiser in (("constant", "adamw"), ("coupled", "adam"), ("changes", "adamw")):
        points = design.points(role)
        yield role, all(point.optimiser == optimiser for point in points), f"{optimiser} at every point"
        yield role, _decaying(points), "weight decay at every point"
        yield role, _mini(points), "mini-batches at every point"
    settled, constant = design.settings["settled"], design.points("constant")
    yield (
        "constant",
        all(len(set(design.rates(point))) == 1 for point in constant),
        "constant rates at every point",
    )
    yield "constant", all(point.clip is None for point in constant), "no clip at any point"
    for role in ("constant", "coupled"):
        late = all(point.length * point.intrinsic_lr > settled for point in design.points(role))
        yield role, late, f"a length of more than {settled:g}/lambda_e"
    changes = design.points("changes")
    yield "changes", all(_ends_positive(design, point) for point in changes), _ONE_DECAY
    memories = [point.intrinsic_lr / (1 - point.value_of("beta2")) for point in changes]
    memory = design.settings["memory"]
    short = any(found <= memory * (1 + 1e-9) for found in memories)
    yield "changes", short, f"a point whose 1/(1 - beta2) is at most {memory:g}/lambda_e"


def _lr_decay(design: Design) -> Needs:
    yield "decay", _sgd(design.points("decay")), "sgd at every point"
    yield "decay", all(_ends_positive(design, point) for point in design.points("decay")), _ONE_DECAY


def _random_pasts(design: Design) -> Needs:
    points = design.points("histories")
    alike = len(points) > 1 and len({point.length for point in points}) == 1
    yield "histories", alike, "two points or more, of one length"
    timelines = [design.timeline(point) for point in points]
    starts = {0}
    for timeline in timelines:
        step = 0
        for segment in timeline.segments[:-1]:
            step += segment.steps
            starts.add(step)
    rates = [{timeline.at(step) for timeline in timelines} for step in sorted(starts)]
    last_apart = max((index for index, found in enumerate(rates) if len(found) > 1), default=-1)
    common = [weight_decay for found in rates[last_apart + 1 :] for _, weight_decay in found]
    phases = last_apart >= 0 and bool(common) and common[0] > 0 and common[-1] == 0
    words = "schedules that differ, then share their rates, then end without weight decay"
    yield "histories", phases, words


def _noise(design: Design) -> Needs:
    points, settled = design.points("equilibrium"), design.settings["settled"]
    yield "equilibrium", _mini(points), "mini-batches at every point"
    yield "equilibrium", _decaying(points), "weight decay at every point"
    late = any(point.steps[-1] * point.intrinsic_lr >= settled for point in points)
    yield "equilibrium", late, f"a checkpoint from {settled:g}/lambda_e on"


def _scaling(design: Design) -> Needs:
    points = design.points("scaling")
    yield "scaling", _mini(points), "mini-batches at every point"
    yield "scaling", _decaying(points), "weight decay at every point"
    allowed = {"batch_size", "lr", "intrinsic_lr"}
    alike = all(allowed.issuperset(pairs.differing_axes(a, b)) for a, b in combinations(points, 2))
    yield "scaling", alike, "points that differ in batch_size, lr and weight_decay alone"
    proportional = any(
        small.batch_size < large.batch_size
        and small.weight_decay == large.weight_decay
        and abs(large.lr / small.lr * small.batch_size / large.batch_size - 1) <= 1e-6
        for small, large in permutations(points, 2)
    )
    words = "two batch sizes at one weight decay, their learning rates in proportion"
    yield "scaling", proportional, words


def _repeated(design: Design, role: str) -> Needs:
    """Several runs from each of several initialisations."""
    replicates = design.roles[role].replicates
    found = pairs.repeated_initialisations(design.points(role), replicates)
    yield (
        role,
        bool(found),
        "two initialisations of two runs each (runs_per_init, or points with another init_seed)",
    )
    yield (
        role,
        _independent(pair for setting in found for pair in combinations(setting, 2)),
        "no common data_order",
    )
    yield role, _decaying(design.points(role)), "weight decay at every point"


def _equilibrium_time(design: Design) -> Needs:
    yield from _repeated(design, "rates")
    points, replicates = design.points("rates"), design.roles["rates"].replicates
    rates = {setting[0].intrinsic_lr for setting in pairs.repeated_initialisations(points, replicates)}
    yield "rates", len(rates) > 1, "several initialisations at two intrinsic rates or more"


def _mixing(design: Design) -> Needs:
    yield from _repeated(design, "mixing")


def _matched_schedules(design: Design) -> Needs:
    def end(point: PlannedPoint) -> float:
        lr, weight_decay = design.rates(point)[-1]
        return lr * weight_decay

    matched, others = design.points("matched_schedules"), design.points("unmatched_schedules")
    for role, points in (("matched_schedules", matched), ("unmatched_schedules", others)):
        alike = {(point.length, point.steps) for point in (*matched, *points)}
        yield role, len(alike) == 1, "one length and the same checkpoints at every point"
    different = [(a, b) for a, b in combinations(matched, 2) if set(pairs.differing_axes(a, b)) - {"init_seed"}]
    together = any(abs(end(a) / end(b) - 1) < 1e-9 for a, b in different if min(end(a), end(b)) > 0)
    yield "matched_schedules", together, "two schedules that reach one intrinsic rate"
    yield (
        "matched_schedules",
        _independent(different),
        "another init_seed for each schedule, and no common data_order",
    )


def _timescales(design: Design) -> Needs:
    points = design.points("grid")
    rates: dict[str, set[tuple[float, float]]] = {}
    for point in points:
        rates.setdefault(point.dataset, set()).add((point.lr, point.weight_decay))
    alike = len(rates) == 2 and len({frozenset(each) for each in rates.values()}) == 1
    sizes = len({point.length for point in points}) == 2
    several = min(len({point.lr for point in points}), len({point.intrinsic_lr for point in points})) > 2
    yield "grid", all(point.optimiser == "adamw" for point in points), "adamw at every point"
    yield "grid", alike, "two data sets, and the same rates on both"
    yield "grid", sizes, "a length in epochs, which is another number of steps on each data set"
    yield "grid", several, "three learning rates or more, and three products with the weight decay"


def _forgets(design: Design) -> Needs:
    """Several initialisations with several runs each, in every role."""
    for role in design.roles:
        yield from _repeated(design, role)
    several = min(len(point.steps) for point in design.points("mixing")) > 1
    yield "mixing", several, "two checkpoints or more"


def _adamw_forgets(design: Design) -> Needs:
    yield from _forgets(design)
    for role, optimiser in (("mixing", "adamw"), ("too_short", "adamw"), ("coupled", "adam")):
        yield (
            role,
            all(point.optimiser == optimiser for point in design.points(role)),
            f"{optimiser} at every point",
        )


NEEDS: Mapping[str, Callable[[Design], Needs]] = {
    "fixed_head_costs_nothing": _fixed_head,
    "norm_recursion": _norm_recursion,
    "exp_lr_equivalence": _exp_lr,
    "rescaling_equivalence": _rescaling,
    "gd_never_settles": _never_settles,
    "early_stopping_needed": _early_stopping,
    "small_lr_generalises": _small_lr,
    "swa_within": _averages,
    "swa_across": _averages_across,
    "distance_grows": _distance,
    "no_mixing_in_weights": _no_mixing,
    "norm_equilibrium": _norm_equilibrium,
    "lr_decay_response": _lr_decay,
    "random_pasts": _random_pasts,
    "noise_anisotropy": _noise,
    "linear_scaling": _scaling,
    "equilibrium_time": _equilibrium_time,
    "function_space_mixing": _mixing,
    "function_space_one_distribution": _mixing,
    "schedules_same_equilibrium": _matched_schedules,
    "schedules_one_distribution": _matched_schedules,
    "adamw_equilibrium": _adamw_equilibrium,
    "adamw_rescaling": partial(_rescaling, optimiser="adamw"),
    "timescale_transfers": _timescales,
    "adamw_swa": _adamw_averages,
    "adamw_mixing": _adamw_forgets,
    "transformer_mixing": _forgets,
}
