"""The page: its content, and how it is put together."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from itables.utils import read_package_file
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from intrinsic_lr.analyses.tables import read_table, table_text
from intrinsic_lr.claims.shared.scorecard_figure import estimate_text, rejected_text
from intrinsic_lr.claims.shared.verdicts import (
    CRITERION,
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REJECTED,
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
from intrinsic_lr.report.embed import data_url, file_download, table_download
from intrinsic_lr.report.symbols import symbols
from intrinsic_lr.study.analyses import caption as experiment_caption
from intrinsic_lr.study.study import Study

VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)
# Columns of the tables and their headings on the page.
_FINDINGS = {
    "role": "Role", "statement": "Tested", "verdict": "Verdict", "estimate": "Estimate", "ci_low": "Low",
    "ci_high": "High", "null_or_threshold": "Wanted", "p_value": "p", "n": "n", "statistic": "Statistic",
    "experiment": "Experiment",
}  # fmt: skip
_PAPER = {
    "claim": "Claim", "quantity": "Quantity", "paper": "Paper", "here": "Here", "here_low": "Low",
    "here_high": "High", "replicates": "n", "verdict": "Verdict", "setting": "Setting",
    "as_in_paper": "As in the paper", "paper_source": "Source",
}  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What the page is made from.

    Attributes:
        study: the configured study.
        products: for each experiment with analyses the names of their `figures` and `tables`.
        templates: folder with the page's template, its style and the captions.
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

    def figure(self, name: str, template: str, **params: Any) -> dict[str, Any]:
        """Return a figure with its caption: the SVG, which is shown, and PDF if the config asks for it.

        PNG files are left out: they would double the page.
        """
        text = caption(self.templates / template, self.study.config, params)
        formats = [format_ for format_ in self.study.formats if format_ != "png"]
        downloads = [file_download(Path(file)) for file in self.study.paths.figure(name, formats)]
        return {"name": name, "image": downloads[0].url, "caption": Markup(text), "downloads": downloads}


def render(sources: Sources) -> str:
    """Return the page as HTML."""
    study, made = sources.study, sources.study.paths
    judged = bool(study.claims)
    findings = _checked_findings(study) if judged else {}
    claims, rejected, numbers = (
        read_table(path) if judged else pd.DataFrame(columns=["claim", "verdict"])
        for path in (made.scorecard, made.controls, made.paper)
    )
    rows = {row.claim: row for row in claims.itertuples()}
    environment = Environment(
        loader=FileSystemLoader(sources.templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["symbols"] = symbols
    tables = {"Scorecard": made.scorecard, "Controls": made.controls} if judged else {}
    return environment.get_template("page.html.jinja").render(
        verdicts={verdict: list(claims.loc[claims["verdict"] == verdict, "claim"]) for verdict in VERDICTS},
        scorecard_figure=sources.figure("scorecard", "scorecard.rst") if judged else None,
        scorecard_downloads=[table_download(Path(file), label) for label, file in tables.items()],
        paper=html_table(numbers, _PAPER) if len(numbers) else None,
        paper_downloads=[table_download(Path(made.paper), "Numbers")] if judged else [],
        claims=[_claim(sources, rows[name], findings[name], rejected, numbers) for name in study.claims],
        experiments=[_experiment(sources, name) for name in sources.products],
        provenance=sources.provenance(study.experiments, study.datasets) | provenance.of_code(study.code),
        config=yaml_text(study.config),
        style=(sources.templates / "page.css").read_text(encoding="utf-8"),
        table_style=read_package_file("html/dt_bundle.css"),
        table_script=data_url(read_package_file("html/dt_bundle.js").encode(), ".js"),
    )


def _checked_findings(study: Study) -> dict[str, pd.DataFrame]:
    """Return the findings of every claim; InputError unless scorecard and controls follow from them."""
    made = study.paths
    findings = {name: read_table(made.findings(name)) for name in study.claims}
    statements = {name: study.catalogue[name].statement for name in study.claims}
    for path, table in ((made.scorecard, scorecard(findings, statements)), (made.controls, controls(findings))):
        if table_text(read_table(path)) != table_text(table):
            raise InputError(
                f"{path}: expected what follows from the findings in {made.folder}/claims, got something "
                f"else; repair with `{rerun_command(path)}`"
            )
    return findings


def html_table(table: pd.DataFrame, columns: Mapping[str, str]) -> Markup:
    """Return some columns of a table as HTML, under these headings; missing values stay empty.

    Numbers have four digits here; the downloads have all.
    """
    shown = table[list(columns)].rename(columns=columns)
    text = shown.map(lambda value: f"{value:.4g}" if isinstance(value, float) else symbols(str(value)))
    text = text.mask(shown.isna(), "")
    return Markup(text.to_html(index=False, border=0, classes="sortable", escape=True))


def yaml_text(value: Any) -> str:
    """Return a part of the config as YAML."""
    # Through JSON, which leaves plain mappings and lists.
    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, width=100, allow_unicode=True)


def _claim(
    sources: Sources, row: Any, findings: pd.DataFrame, of_controls: pd.DataFrame, numbers: pd.DataFrame
) -> dict[str, Any]:
    """Return what the page says of a claim."""
    study, name = sources.study, row.claim
    of_controls, of_paper = (table[table["claim"] == name] for table in (of_controls, numbers))
    experiments = study.claim_experiments(name)
    points = [point for experiment in experiments for point in study.experiments[experiment].points]
    datasets = sorted({point.dataset for point in points} | set(study.claim_datasets(name)))
    config = {
        "claims": {name: study.config["claims"][name]},
        "experiments": {key: study.config["experiments"][key] for key in experiments},
    }
    return {
        "name": name,
        "stated": study.catalogue[name],
        "row": row,
        "estimate": estimate_text(row),
        "criteria": (findings["role"] == CRITERION).sum(),
        "controls": rejected_text(of_controls),
        "rejected": (of_controls["verdict"] == REJECTED).sum(),
        "figure": sources.figure(name, "claim.rst", statement="", captions=study.captions(name)),
        "findings": html_table(findings, _FINDINGS),
        "paper": html_table(of_paper, _PAPER) if len(of_paper) else None,
        "downloads": [
            table_download(Path(study.paths.findings(name)), "Criteria and controls", f"{name}_findings.csv"),
            table_download(Path(study.paths.table(name)), "Measurements"),
        ],
        "provenance": sources.provenance(experiments, datasets),
        "config": yaml_text(config),
    }


def _caption(study: Study, name: str) -> str:
    analysis, experiment = study.figures[name]
    spec, figure = study.analyses[analysis], name.removesuffix(f"_{experiment}")
    return experiment_caption(study.experiments[experiment], spec, figure)


def _experiment(sources: Sources, name: str) -> dict[str, Any]:
    """Return what the page shows of an experiment's analyses."""
    products = sources.products[name]
    experiment = sources.study.experiments[name]
    datasets = sorted({point.dataset for point in experiment.points})
    return {
        "name": name,
        "figures": [
            sources.figure(figure, "experiment.rst", caption=_caption(sources.study, figure))
            for figure in products["figures"]
        ],
        "downloads": [
            table_download(Path(sources.study.paths.table(table)), table) for table in products["tables"]
        ],
        "provenance": sources.provenance([name], datasets),
        "config": yaml_text({"experiments": {name: sources.study.config["experiments"][name]}}),
    }
