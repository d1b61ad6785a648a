"""Whether networks of any optimiser mix: functions forget their initialisation, weights do not.

Time is counted in 1/(eta lambda) for every optimiser. Functions are tested as in `forgetting`, with its margin.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import forgetting
from intrinsic_lr.claims.shared.forgetting import LABELS, LOGITS, Runs
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import mean_interval
from intrinsic_lr.stats.lags import sphere_walk
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import repeated_initialisations, tenfold

MIXING, OTHER, SHORT, COUPLED = "mixing", "other_rate", "too_short", "coupled"
"""Roles of experiments; initialisations are compared in all but the second. `COUPLED` is Adam with L2."""
RATE = "intrinsic_lr"
"""Kind of comparison: a setting of the first role and one of the first two, ten times apart in eta lambda."""
WEIGHTS, WALK = "weights", "walk"
"""Kinds of rows with cosines of weights: of the networks, and of walks of noise alone on the sphere."""
WITHIN, ACROSS = "within", "across_initialisations"
CONTROLS = {
    RATE: "two products eta lambda a factor of ten apart",
    SHORT: "initialisations, stopped too soon",
    COUPLED: "initialisations under Adam with weight decay in its gradient",
}
MAX_DIMENSION = 2000
"""Of a simulated walk: cosines of independent directions are then within 0.02 of 0."""
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "0.35"]


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the shares that initialisations cause, and the cosines of weights at the end.

    A row for each comparison, checkpoint and kind of distance as `forgetting` has them; then, with `part` of
    `WEIGHTS` or `WALK`, a row for each run: its `cosine` with itself `lag` earlier (`relation` within), and with a
    run of the next initialisation.
    """
    spec, rows, cosines = data.spec, [], []
    settings = {role: _settings(data, role) for role in spec.experiments}
    for role in (MIXING, SHORT, COUPLED):
        for runs in settings.get(role, []):
            steps = runs.first.steps[-1:] if role == SHORT else runs.first.steps
            rows += forgetting.compare_initialisations(data, role, _name(runs.first), runs, steps)
    others = [(one, other) for one in settings[MIXING] for other in settings.get(OTHER, [])]
    for one, other in [*combinations(settings[MIXING], 2), *others]:
        if tenfold(one.first, other.first):
            words = f"{_name(one.first)} against {other.first.intrinsic_lr:.3g}"
            rows += forgetting.compare_settings(data, RATE, words, one, other)
    for runs in settings[MIXING]:
        cosines += _cosines(data, runs)
    table = forgetting.as_table(rows)
    return pd.concat([table, *cosines], ignore_index=True) if cosines else table


def _settings(data: ClaimData, role: str) -> list[Runs]:
    """Return the settings of a role that have several initialisations."""
    points, replicates = data.spec.points(role), data.spec.replicates(role)
    return [Runs.read(data, role, setting) for setting in repeated_initialisations(points, replicates)]


def _name(point: PlannedPoint) -> str:
    optimiser = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(point.optimiser, point.optimiser)
    end = f", stopped at {time:.2g}/(eta lambda)" if (time := point.steps[-1] * point.intrinsic_lr) < 1 else ""
    return f"{optimiser}, eta {point.lr:.3g}, eta lambda {point.intrinsic_lr:.3g}{end}"


def _cosines(data: ClaimData, runs: Runs) -> list[pd.DataFrame]:
    """Return the cosines of the runs of a setting's first point, and those of walks at its rate."""
    from intrinsic_lr.stats.distance import ALL, across

    point, ensemble, kept = runs.first, runs.ensembles[0], list(runs.kept[0])
    if not kept:
        return []
    wanted = point.steps[-1] - data.spec.settings["lag"] / point.intrinsic_lr
    earlier = min(point.steps[:-1], key=lambda step: abs(step - wanted))
    start, end, groups = ensemble.weights(earlier), ensemble.weights(point.steps[-1]), ensemble.scale_groups
    # The partner has the same place in the next initialisation, after the last one in the first.
    partners = [(k + point.runs_per_init) % data.spec.replicates(MIXING) for k in kept]
    lag = (point.steps[-1] - earlier) * point.intrinsic_lr
    named = {"setting": _name(point), "intrinsic_lr": point.intrinsic_lr, "lag": lag}
    tables = []
    for relation, a, pairs in (
        (WITHIN, start, [(k, k) for k in kept]),
        (ACROSS, end, [(partner, k) for partner, k in zip(partners, kept, strict=True) if partner in kept]),
    ):
        table = across(a, end, groups, pairs) if pairs else pd.DataFrame(columns=["layer"])
        table = table[table["layer"] == ALL].rename(columns={"replicate_b": "replicate"})
        tables.append(table.assign(part=WEIGHTS, relation=relation, **named))
    dimension = sum(end[name][0].numel() for names in groups.values() for name in names)
    walk = _walk(point, earlier, len(kept), min(dimension, MAX_DIMENSION), data.spec.generator(WALK, point.name))
    columns = ["part", "setting", "intrinsic_lr", "lag", "relation", "replicate", "cosine"]
    return [table[columns] for table in (*tables, walk.assign(part=WALK, **named))]


def _walk(
    point: PlannedPoint, earlier: int, count: int, dimension: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return the cosines of walks of noise alone, each from a direction of its own."""
    start = generator.standard_normal((count, dimension))
    _, before, last = sphere_walk(start, [0, earlier, point.steps[-1]], point.intrinsic_lr, generator)
    found = {WITHIN: before, ACROSS: np.roll(last, 1, axis=0)}
    tables = [
        pd.DataFrame({"relation": relation, "replicate": range(count), "cosine": (other * last).sum(axis=1)})
        for relation, other in found.items()
    ]
    return pd.concat(tables, ignore_index=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask whether functions have forgotten their initialisation up to the margin, and whether weights have not."""
    # The least like the claim first, which then stands for it in the scorecard.
    last = forgetting.last_steps(table[table["step"].notna()])
    last = last.sort_values("share_high", ascending=False, kind="stable")
    yield from forgetting.test_forgotten(spec.criterion, last[last["part"] == MIXING], spec, MIXING, powered=True)
    for part in _controls(spec):
        roles = [role for role in (MIXING, OTHER) if role in spec.experiments] if part == RATE else [part]
        rows = last[last["part"] == part]
        yield from forgetting.test_forgotten(spec.control, rows, spec, *roles, powered=False)
        if rows.empty:
            yield spec.control(f"{CONTROLS[part]}: no such runs", forgetting.SHARES[LABELS], NOTHING, *roles)
    if last[last["part"] == MIXING].empty:
        yield spec.criterion("several initialisations: no such runs", forgetting.SHARES[LABELS], NOTHING, MIXING)
    yield from _judge_weights(table, spec)


def _controls(spec: ClaimSpec) -> list[str]:
    return [part for part in CONTROLS if part == RATE or part in spec.experiments]


def _judge_weights(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    allowed = Range(low=spec.thresholds["gap"])
    statistic = "cosine of a run's weights with its own earlier, less that with another initialisation's"
    for part, judged, words in (
        (WEIGHTS, spec.criterion, "weights lie closer to their own earlier ones than to another initialisation's"),
        (WALK, spec.control, "a walk of noise alone on the sphere"),
    ):
        rows = table[table["part"] == part]
        for setting in list(dict.fromkeys(rows["setting"])) or ["no runs"]:
            gap = mean_interval(gaps(rows[rows["setting"] == setting]), spec.confidence)
            yield judged(f"{setting}: {words}", statistic, gap, MIXING, allowed=allowed)


def gaps(rows: pd.DataFrame) -> pd.Series:
    """Return each run's cosine within its trajectory less that across, of the rows of one setting."""
    wide = rows.pivot(index="replicate", columns="relation", values="cosine").reindex(columns=[WITHIN, ACROSS])
    return (wide[WITHIN] - wide[ACROSS]).dropna()


def draw(table: pd.DataFrame, spec: ClaimSpec, title: str) -> Figure:
    """Draw the share that initialisations cause against time, all comparisons at their end, and the cosines."""
    figure, ((curves, ends, cosines),) = style.panels(1, 3, 3.4, width_ratios=[1.15, 1, 0.7])
    of_functions = table[table["step"].notna()]
    _draw_curves(curves, of_functions, spec)
    _draw_ends(ends, forgetting.last_steps(of_functions), spec)
    _draw_cosines(cosines, table, spec)
    same = of_functions[of_functions["part"] == MIXING]
    counts = [style.count_text(same[name].dropna().astype(int)) for name in ("runs", "initialisations")]
    note = (
        f"{counts[0]} runs of {counts[1]} initialisations; {spec.percent} intervals: over initialisations "
        "(shares), over runs (cosines);\ndashed: margin; circles: labels, diamonds: logits"
    )
    return style.legend_below(figure, style.labelled(figure), 3, note, title)


def _colours(table: pd.DataFrame) -> dict[str, str]:
    """Return a colour for each setting of which initialisations are compared."""
    shown = list(dict.fromkeys(table.loc[table["part"].isin([MIXING, COUPLED]), "setting"]))
    return {setting: _COLOURS[place % len(_COLOURS)] for place, setting in enumerate(shown)}


def _mathtext(setting: str) -> str:
    text = setting.replace("eta lambda", r"$\eta\lambda$")
    return text.replace("(eta lambda)", r"($\eta\lambda$)").replace(" eta ", r" $\eta$ ")


def _draw_curves(panel: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    rows = table[table["distance"] == LABELS]
    for setting, colour in _colours(table).items():
        line = rows[(rows["setting"] == setting) & rows["part"].isin([MIXING, COUPLED])].sort_values(
            "intrinsic_time"
        )
        coupled = (line["part"] == COUPLED).any()
        look = {"color": colour, "marker": "v" if coupled else "o", "ls": ":" if coupled else "-", "ms": 3.5}
        panel.plot(line["intrinsic_time"], 100 * line["share"], lw=1.2, label=_mathtext(setting), **look)
        ends = 100 * line["share_low"], 100 * line["share_high"]
        panel.fill_between(line["intrinsic_time"], *ends, color=colour, alpha=0.15, lw=0)
    panel.axhline(100 * spec.thresholds["share"], color="0.3", lw=0.9, ls="--")
    panel.axhline(0, color="0.2", lw=0.7)
    style.logarithmic(panel, "x", rows["intrinsic_time"])
    if len(rows):
        first, last = np.log2([rows["intrinsic_time"].min(), rows["intrinsic_time"].max()]).round()
        style.ticks(panel, 2.0 ** np.arange(first, last + 1))
    panel.set_yscale("symlog", linthresh=5, linscale=1)
    panel.set_ylim(-2, 110)
    panel.set_yticks([0, 2, 5, 10, 20, 50, 100], ["0", "2", "5", "10", "20", "50", "100"])
    panel.set(xlabel=r"steps $\times\ \eta\lambda$", ylabel="disagreement caused by\ninitialisations, %")
    panel.set_title("Functions forget")


def _draw_ends(panel: Axes, last: pd.DataFrame, spec: ClaimSpec) -> None:
    names = list(dict.fromkeys(last["setting"]))
    colours = _colours(last)
    for row in last.itertuples():
        shift, marker = {LABELS: (-0.15, "o"), LOGITS: (0.15, "D")}[row.distance]
        share = 100 * np.array([row.share, row.share_low, row.share_high])
        colour = colours.get(row.setting, "0.45") if row.part in (MIXING, COUPLED) else "0.45"
        place = names.index(row.setting) + shift
        style.error_bar(panel, place, share, horizontal=True, marker=marker, ms=4, color=colour)
    panel.axvline(100 * spec.thresholds["share"], color="0.3", lw=0.9, ls="--")
    panel.axvline(0, color="0.2", lw=0.7)
    texts = [_mathtext(name).replace(", ", ",\n", 1) for name in names]
    panel.set_yticks(range(len(names)), texts, fontsize="x-small")
    panel.set_ylim(max(len(names), 1) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)
    panel.set_xscale("symlog", linthresh=5, linscale=1)
    panel.set_xlim(-2, 110)
    panel.set_xticks([0, 2, 5, 20, 100], ["0", "2", "5", "20", "100"])
    panel.set(xlabel="share at the end, %", title="... up to the margin")


def _draw_cosines(panel: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    colours = _colours(table)
    settings = list(dict.fromkeys(table.loc[table["part"] == WEIGHTS, "setting"]))
    for place, setting in enumerate(settings):
        for part, face in ((WEIGHTS, colours.get(setting, "0.45")), (WALK, "white")):
            rows = table[(table["part"] == part) & (table["setting"] == setting)]
            for relation, shift in ((WITHIN, -0.15), (ACROSS, 0.15)):
                estimate = mean_interval(rows.loc[rows["relation"] == relation, "cosine"], spec.confidence)
                look = {"color": colours.get(setting, "0.45"), "marker": "s" if relation == WITHIN else "^"}
                style.error_bar(panel, place + shift, estimate, ms=5, mfc=face, capsize=2, **look)
    for marker, words in (("s", "with its own earlier weights"), ("^", "with another initialisation's")):
        panel.plot([], [], color="0.35", marker=marker, ls="", label=words)
    panel.plot([], [], color="0.35", marker="s", mfc="white", ls="", label="walk of noise alone")
    panel.axhline(0, color="0.5", lw=0.8)
    panel.set_xticks(range(len(settings)), ["" for _ in settings])
    panel.set_xlim(-0.6, max(len(settings), 1) - 0.4)
    panel.grid(axis="x", visible=False)
    panel.set(ylabel="cosine of weights", title="Weights do not", ylim=(-0.1, 1.05))
