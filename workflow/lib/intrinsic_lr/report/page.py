"""The page: its content, and how it is put together."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from intrinsic_lr.analyses.tables import read_table, table_text
from intrinsic_lr.claims.shared.scorecard_figure import estimate_text, interval_text, rejected_text
from intrinsic_lr.claims.shared.verdicts import (
    CONTROL,
    CRITERION,
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    controls,
    scorecard,
)
from intrinsic_lr.core import paths
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.records import CountedDataRecord, ProvenanceRecord
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.report import provenance
from intrinsic_lr.report.captions import caption
from intrinsic_lr.report.embed import file_download, image_url, table_download
from intrinsic_lr.report.formulas import formulas
from intrinsic_lr.report.thumbnails import disagreed
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.study.analyses import caption as experiment_caption
from intrinsic_lr.study.claims import BOARDS, QUESTIONS
from intrinsic_lr.study.schema import Report
from intrinsic_lr.study.study import Study

VERDICTS = (NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED)
"""In the order in which a reader sees them: what is open comes first."""
HEADLINES = ("function_space_mixing", "no_mixing_in_weights", "equilibrium_time")
"""The claims whose pictures head the page, as far as they are judged."""
TITLE = "The intrinsic learning rate, reproduced"
ARXIV, BLOG = "https://arxiv.org/abs/", "https://www.offconvex.org/2020/10/21/intrinsicLR/"
# Headings of the columns, and what each shows of a row.
_FINDINGS = {
    "Tested": lambda row: Markup("{}<br><small>{}</small>").format(
        formulas(row.statement), formulas(row.statistic)
    ),
    "Verdict": lambda row: badge(row.verdict),
    "Estimate": interval_text,
    "p": lambda row: "" if pd.isna(row.p_value) else f"{row.p_value:.2g}",
    "n": lambda row: str(row.n),
    "Allowed": lambda row: formulas(row.null_or_threshold),
    "Experiments": lambda row: "" if pd.isna(row.experiment) else row.experiment,
}
_PAPER = {
    "Quantity": lambda row: formulas(row.quantity),
    "Paper": lambda row: formulas(str(row.paper)),
    "Here": lambda row: _here(row),
    "Verdict": lambda row: badge(row.verdict),
    "Setting": lambda row: formulas(_text(row.setting)),
    "As in the paper": lambda row: formulas(_text(row.as_in_paper)),
    "Source": lambda row: linked(row.paper_source),
}
UNLIKE = {"Estimate", "Allowed", "Deciding number", "Paper", "Here"}
"""Columns that hold different quantities from row to row, by which no table is sorted."""


@dataclass(frozen=True)
class Sources:
    """What the page is made from.

    Attributes:
        study: the configured study.
        products: for each experiment with analyses the names of their `figures` and `tables`.
        templates: folder with the page's template, its style, its scripts and the captions.
    """

    study: Study
    products: Mapping[str, Mapping[str, Sequence[str]]]
    templates: Path
    _records: dict[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)

    def provenance(self, experiments: Iterable[str], datasets: Iterable[str]) -> dict[str, str]:
        """Return the provenance of the results of these experiments and data sets, by heading."""
        infos = [read_json(paths.DATA_INFO.format(dataset=name), CountedDataRecord) for name in datasets]
        # A point of several experiments counts once, with all its blocks.
        names = dict.fromkeys(point.name for name in experiments for point in self.study.experiments[name].points)
        for name in names.keys() - self._records.keys():
            blocks = map(paths.block_name, self.study.trainings[name].blocks)
            files = [paths.RUN.format(point=name, block=block) for block in blocks]
            self._records[name] = [read_json(file, ProvenanceRecord) for file in files]
        records = [record for name in names for record in self._records[name]]
        return provenance.of_data(infos) | provenance.of_trainings(records) | provenance.of_tools()

    def figure(self, name: str, made_by: str, keys: Sequence[str], template: str, **params: Any) -> dict[str, Any]:
        """Return a figure with its caption, how it was made, and its files.

        The SVG is shown, as it is drawn for a page and for a narrow screen. PDF is embedded if the config asks for
        it; PNG files are left out, since they would double the page.
        """
        study = self.study
        files = study.paths.figure(name, study.formats)
        shown = Path(files[0])
        return {
            "name": name,
            "image": image_url(shown),
            "narrow": image_url(Path(study.paths.narrow_figure(name))),
            "caption": Markup(caption(self.templates / template, study.config, params)),
            "pdfs": [
                file_download(Path(file)) for file in study.paths.figure(name, study.formats) if file[-3:] == "pdf"
            ],
            "made_by": made_by,
            "keys": [*keys, "analysis", "figures", "seed"],
            "command": rerun_command(shown),
        }

    def disagreed(self, experiment: str) -> dict[str, Any] | None:
        """Return the test images on which the runs of an experiment's first point disagree at its end."""
        study, selected = self.study, self.study.experiments[experiment]
        if "disagreement" not in selected.analyses:
            return None
        point = selected.points[0]
        blocks = [paths.block_name(block) for block in study.trainings[point.name].blocks]
        folders = [Path(paths.BLOCK.format(point=point.name, block=block)) for block in blocks]
        ensemble = open_ensemble(folders, selected.replicates, point, study.settings.seed)
        files = (pattern.format(dataset=point.dataset) for pattern in (paths.DATA, paths.DATA_INFO))
        found = disagreed(ensemble, point.steps[-1], *files)
        return found and {**found, "point": point.name, "step": point.steps[-1]}

    @cached_property
    def reference(self) -> dict[str, str]:
        """The verdicts of a published run, by claim."""
        table = pd.read_csv(self.templates / "reference.csv")
        return dict(zip(table["claim"], table["verdict"], strict=True))


def render(sources: Sources) -> str:
    """Return the page as HTML."""
    study, made = sources.study, sources.study.paths
    words, is_default = study.settings.report or Report(), study.settings.study == "default"
    judged = bool(study.claims)
    findings = _checked_findings(study) if judged else {}
    card, of_controls, numbers = (
        read_table(path) if judged else pd.DataFrame(columns=["claim", "verdict"])
        for path in (made.scorecard, made.controls, made.paper)
    )
    rows = {row.claim: row for row in card.itertuples()}
    claims = [_claim(sources, rows[name], findings[name], of_controls, numbers) for name in study.claims]
    claims.sort(key=lambda claim: VERDICTS.index(claim["row"].verdict))
    environment = Environment(
        loader=FileSystemLoader(sources.templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"formulas": formulas, "linked": linked, "badge": badge, "words": _words}
    names = {"Scorecard": made.scorecard, "Controls": made.controls, "Numbers": made.paper} if judged else {}
    headlines = [claim for name in HEADLINES for claim in claims if claim["name"] == name]
    return environment.get_template("page.html.jinja").render(
        title=words.title or (TITLE if is_default else f"Study {_words(study.settings.study)}"),
        report=words,
        is_default=is_default,
        sentences=_sentences(claims, of_controls),
        headlines=headlines,
        shown_above={claim["name"] for claim in headlines},
        boards={
            heading: [claim for claim in claims if claim["stated"].board == board]
            for board, heading in BOARDS.items()
        },
        questions=_by_question(claims),
        verdicts=VERDICTS,
        unlike=UNLIKE,
        scorecard_figure=_scorecard_figure(sources) if judged else None,
        files=[table_download(Path(file), label) for label, file in names.items()],
        paper=table("The paper's numbers beside those of this study", _PAPER, numbers),
        experiments=[_experiment(sources, name) for name in sources.products],
        provenance=sources.provenance(study.experiments, study.datasets) | provenance.of_code(study.code),
        config=yaml_text(study.config),
        links={"Paper": f"{ARXIV}2010.02916", "Blog post": BLOG},
        style=(sources.templates / "page.css").read_text(encoding="utf-8"),
        scripts=[(sources.templates / name).read_text(encoding="utf-8") for name in ("page.js", "toy.js")],
    )


def _words(name: str) -> str:
    """Return a name of the config in words."""
    return name.replace("_", " ")


def _sentences(claims: Sequence[Mapping[str, Any]], of_controls: pd.DataFrame) -> list[str]:
    """Return the result in up to three sentences: the verdicts on each board, and on the controls."""
    told = []
    for board, words in (("claim", "claims of the paper"), ("addition", "additions of this project")):
        of_board = [claim["row"].verdict for claim in claims if claim["stated"].board == board]
        if of_board:
            told.append(f"Of {len(of_board)} {words} {_counted(of_board)}.")
    checks = [claim["row"].verdict for claim in claims if claim["stated"].board == "check"]
    rejected = f"{rejected_text(of_controls)} controls were rejected, as all of them have to be."
    holding = f"Of {len(checks)} checks of the code {checks.count(REPRODUCED)} hold, and " if checks else ""
    told.append(f"{holding}{rejected}" if len(of_controls) else "No control was judged.")
    return told


def _counted(verdicts: Sequence[str]) -> str:
    counts = [(verdicts.count(verdict), verdict) for verdict in reversed(VERDICTS) if verdict in verdicts]
    return ", ".join(f"{count} {'is' if count == 1 else 'are'} {verdict}" for count, verdict in counts)


def _by_question(claims: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the claims by question, those questions first that are not settled; claims are sorted by verdict."""
    groups = {text: [c for c in claims if c["stated"].question == key] for key, text in QUESTIONS.items()}
    groups = {text: members for text, members in groups.items() if members}
    worst = {text: VERDICTS.index(members[0]["row"].verdict) for text, members in groups.items()}
    return dict(sorted(groups.items(), key=lambda item: worst[item[0]]))


def _checked_findings(study: Study) -> dict[str, pd.DataFrame]:
    """Return the findings of every claim; InputError unless scorecard and controls follow from them."""
    made = study.paths
    findings = {name: read_table(made.findings(name)) for name in study.claims}
    statements = {name: study.catalogue[name].statement for name in study.claims}
    for path, expected in ((made.scorecard, scorecard(findings, statements)), (made.controls, controls(findings))):
        if table_text(read_table(path)) != table_text(expected):
            raise InputError(
                f"{path}: expected what follows from the findings in {made.folder}/claims, got something "
                f"else; repair with `{rerun_command(path)}`"
            )
    return findings


def badge(verdict: str) -> Markup:
    """Return a verdict as a badge."""
    return Markup('<span class="badge {}">{}</span>').format(verdict.replace(" ", "-"), verdict)


def linked(source: str) -> Markup:
    """Return a source with links to what it names: papers on arXiv, and the authors' blog post."""
    text = re.sub(r"arXiv:(\d+\.\d+)", rf'<a href="{ARXIV}\1">arXiv:\1</a>', str(escape(source)))
    text = text.replace("Off the Convex Path, 21 October", f'<a href="{BLOG}">Off the Convex Path, 21 October</a>')
    return Markup(text)


def table(heading: str, columns: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return a table for the page: `columns` give for each heading what it shows of a row; None without rows."""
    if not len(rows):
        return None
    cells = [[show(row) for show in columns.values()] for row in rows.itertuples()]
    return {"heading": heading, "columns": list(columns), "rows": cells}


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _here(row: Any) -> str:
    if pd.isna(row.here):
        return ""
    interval = f" [{row.here_low:.4g}, {row.here_high:.4g}]" if row.here_low != row.here_high else ""
    return f"{row.here:.4g}{interval}, n = {row.replicates:.0f}"


def yaml_text(value: Any) -> str:
    """Return a part of the config as YAML."""
    # Through JSON, which leaves plain mappings and lists.
    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, width=100, allow_unicode=True)


def _code(module: str, spec: Any) -> str:
    """Return the file that holds an analysis or the test of a claim: the library's, or the user's own."""
    return spec.own[0] if spec.own else f"intrinsic_lr/{module}.py"


def _scorecard_figure(sources: Sources) -> dict[str, Any]:
    return sources.figure(
        "scorecard", "intrinsic_lr/claims/shared/scorecard_figure.py", ["claims"], "scorecard.rst"
    )


def _claim(
    sources: Sources, row: Any, findings: pd.DataFrame, of_controls: pd.DataFrame, numbers: pd.DataFrame
) -> dict[str, Any]:
    """Return what the page says of a claim."""
    study, name, stated = sources.study, row.claim, sources.study.catalogue[row.claim]
    of_controls, of_paper = (frame[frame["claim"] == name] for frame in (of_controls, numbers))
    criteria = findings[findings["role"] == CRITERION]
    experiments = study.claim_experiments(name)
    points = [point for experiment in experiments for point in study.experiments[experiment].points]
    datasets = sorted({point.dataset for point in points} | set(study.claim_datasets(name)))
    config = {
        "claims": {name: study.config["claims"][name]},
        "experiments": {key: study.config["experiments"][key] for key in experiments},
    }
    keys = [f"claims.{name}", *(f"experiments.{key}" for key in experiments)]
    made_by, captions = _code(f"claims/{name}", stated), study.captions(name)
    return {
        "name": name,
        "stated": stated,
        "row": row,
        "estimate": estimate_text(row),
        "criteria": len(criteria),
        "controls": rejected_text(of_controls),
        "reference": sources.reference.get(name),
        "figure": sources.figure(name, made_by, keys, "claim.rst", statement="", captions=captions),
        "findings": [
            table(f"Criteria: {stated.title}", _FINDINGS, criteria),
            table(f"Controls: {stated.title}", _FINDINGS, findings[findings["role"] == CONTROL]),
        ],
        "paper": table(f"The paper's numbers: {stated.title}", _PAPER, of_paper),
        "downloads": [
            table_download(Path(study.paths.findings(name)), "Criteria and controls", f"{name}_findings.csv"),
            table_download(Path(study.paths.table(name)), "Measurements"),
        ],
        "provenance": sources.provenance(experiments, datasets),
        "config": yaml_text(config),
    }


def _experiment(sources: Sources, name: str) -> dict[str, Any]:
    """Return what the page shows of an experiment's analyses."""
    study, products = sources.study, sources.products[name]
    experiment = study.experiments[name]
    datasets = sorted({point.dataset for point in experiment.points})
    figures = []
    for figure in products["figures"]:
        analysis, shown = study.figures[figure][0], figure.removesuffix(f"_{name}")
        spec = study.analyses[analysis]
        told = experiment_caption(experiment, spec, shown)
        made_by, keys = _code(f"analyses/{analysis}", spec), [f"experiments.{name}"]
        figures.append({**sources.figure(figure, made_by, keys, "experiment.rst", caption=told), "shown": shown})
    return {
        "name": name,
        "figures": figures,
        "disagreed": sources.disagreed(name),
        "downloads": [table_download(Path(study.paths.table(made)), _words(made)) for made in products["tables"]],
        "provenance": sources.provenance([name], datasets),
        "config": yaml_text({"experiments": {name: study.config["experiments"][name]}}),
    }
