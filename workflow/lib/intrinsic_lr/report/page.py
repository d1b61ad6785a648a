"""The page: what stands on it, and how it is put together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from itables.utils import read_package_file
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from intrinsic_lr.claims.shared.scorecard_figure import estimate_text, rejected_text
from intrinsic_lr.claims.shared.verdicts import CRITERION, INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from intrinsic_lr.core import paths
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.report import provenance
from intrinsic_lr.report.captions import caption
from intrinsic_lr.report.embed import Download, data_url, file_download, table_download
from intrinsic_lr.report.symbols import symbols
from intrinsic_lr.study.claims import CLAIMS
from intrinsic_lr.study.study import Study

VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)
_SHOWN = {
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
class Figure:
    """A figure on the page.

    Attributes:
        name: its file's name without ending.
        image: the SVG as a data URL.
        caption: HTML.
        downloads: the figure as SVG, and as PDF if the config wants that; PNG would double the page.
    """

    name: str
    image: str
    caption: Markup
    downloads: Sequence[Download]


@dataclass(frozen=True)
class ClaimSection:
    """What the page says of a claim."""

    name: str
    statement: str
    source: str
    refuted_by: str
    verdict: str
    decided: Mapping[str, str]
    figure: Figure
    findings: Markup
    paper: Markup | None
    downloads: Sequence[Download]
    provenance: Mapping[str, str]
    config: str


@dataclass(frozen=True)
class ExperimentSection:
    """What the page shows of an experiment's analyses."""

    name: str
    figures: Sequence[Figure]
    downloads: Sequence[Download]
    provenance: Mapping[str, str]
    config: str


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

    def records(self, experiments: Sequence[str]) -> list[dict[str, Any]]:
        """Return the records of the trainings of these experiments, each once, with all blocks of a point."""
        names = dict.fromkeys(point.name for name in experiments for point in self.study.experiments[name].points)
        for name in names:
            if name not in self._records:
                blocks = self.study.trainings[name].blocks
                files = [paths.RUN.format(point=name, block=paths.block_name(block)) for block in blocks]
                self._records[name] = [read_json(file) for file in files]
        return [record for name in names for record in self._records[name]]

    def provenance(self, experiments: Sequence[str], datasets: Sequence[str]) -> dict[str, str]:
        """Return the provenance of what these experiments and data sets gave."""
        infos = [read_json(paths.DATA_INFO.format(dataset=name)) for name in datasets]
        trained = provenance.of_trainings(self.records(experiments))
        return provenance.of_data(infos) | trained | provenance.of_tools()


def render(sources: Sources) -> str:
    """Return the page as HTML."""
    study = sources.study
    judged = bool(study.claims)
    claims = pd.read_csv(paths.SCORECARD) if judged else pd.DataFrame(columns=["claim", "verdict"])
    controls = pd.read_csv(paths.CONTROLS) if judged else pd.DataFrame(columns=["claim", "verdict"])
    numbers = pd.read_csv(paths.PAPER) if judged else pd.DataFrame(columns=list(_PAPER))
    rows = {row.claim: row for row in claims.itertuples()}
    environment = Environment(
        loader=FileSystemLoader(sources.templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["symbols"] = symbols
    return environment.get_template("page.html.jinja").render(
        verdicts={verdict: list(claims.loc[claims["verdict"] == verdict, "claim"]) for verdict in VERDICTS},
        scorecard=[_scorecard_row(rows[name], controls) for name in study.claims],
        scorecard_figure=_scorecard_figure(sources) if judged else None,
        scorecard_downloads=[
            table_download(Path(file), label)
            for file, label in ((paths.SCORECARD, "Scorecard"), (paths.CONTROLS, "Controls"))
            if judged
        ],
        paper=html_table(numbers, _PAPER) if len(numbers) else None,
        paper_downloads=[table_download(Path(paths.PAPER), "Numbers")] if judged else [],
        claims=[_claim(sources, rows[name], controls, numbers) for name in study.claims],
        experiments=[_experiment(sources, name) for name in sources.products],
        provenance=sources.provenance(list(study.experiments), study.datasets),
        config=yaml_text(study.config),
        style=(sources.templates / "page.css").read_text(encoding="utf-8"),
        table_style=read_package_file("html/dt_bundle.css"),
        table_script=_script_url(read_package_file("html/dt_bundle.js")),
    )


def html_table(table: pd.DataFrame, columns: Mapping[str, str]) -> Markup:
    """Return some columns of a table as HTML, under these headings; missing values stay empty."""
    shown = table[list(columns)].rename(columns=columns)
    # Beyond text, numbers alone appear: to four digits, for people; the download has them all.
    text = shown.map(lambda value: f"{value:.4g}" if isinstance(value, float) else symbols(str(value)))
    text = text.mask(shown.isna(), "")
    return Markup(text.to_html(index=False, border=0, classes="sortable", escape=True))


def yaml_text(value: Any) -> str:
    """Return a part of the config as YAML."""
    # Through JSON, which leaves plain mappings and lists.
    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, width=100, allow_unicode=True)


def _script_url(text: str) -> str:
    return data_url(text.encode(), ".js")


def _scorecard_row(row: Any, controls: pd.DataFrame) -> dict[str, str]:
    return {
        "claim": row.claim,
        "statement": row.statement,
        "verdict": row.verdict,
        "estimate": estimate_text(row),
        "wanted": row.null_or_threshold,
        "controls": rejected_text(controls[controls["claim"] == row.claim]),
    }


def _figure(sources: Sources, name: str, text: str) -> Figure:
    formats = [format_ for format_ in sources.study.formats if format_ != "png"]
    downloads = [file_download(Path(file)) for file in paths.figure_files(name, formats)]
    image = downloads[0].url
    return Figure(name, image, Markup(text), downloads)


def _scorecard_figure(sources: Sources) -> Figure:
    text = caption(sources.templates / "scorecard.rst", sources.study.config, {}, {})
    return _figure(sources, "scorecard", text)


def _claim(sources: Sources, row: Any, controls: pd.DataFrame, numbers: pd.DataFrame) -> ClaimSection:
    study, name = sources.study, row.claim
    stated = CLAIMS[name]
    # The statement stands above the figure already.
    text = caption(sources.templates / "claim.rst", study.config, {"claim": name}, {"statement": ""})
    findings = pd.read_csv(paths.FINDINGS.format(claim=name))
    of_paper = numbers[numbers["claim"] == name]
    experiments = study.claim_experiments(name)
    datasets = sorted(
        {point.dataset for experiment in experiments for point in study.experiments[experiment].points}
        | set(study.claim_datasets(name))
    )
    tested = study.config["claims"][name]
    return ClaimSection(
        name=name,
        statement=stated.statement,
        source=stated.source,
        refuted_by=stated.refuted_by,
        verdict=row.verdict,
        decided={
            "statistic": row.statistic,
            "estimate": estimate_text(row),
            "wanted": row.null_or_threshold,
            "criteria": str((findings["role"] == CRITERION).sum()),
            "controls": rejected_text(controls[controls["claim"] == name]),
        },
        figure=_figure(sources, name, text),
        findings=html_table(findings, _SHOWN),
        paper=html_table(of_paper, _PAPER) if len(of_paper) else None,
        downloads=[
            table_download(Path(paths.FINDINGS.format(claim=name)), "Criteria and controls"),
            table_download(Path(paths.TABLE.format(name=name)), "Measurements"),
        ],
        provenance=sources.provenance(experiments, datasets),
        config=yaml_text(
            {
                "claims": {name: tested},
                "experiments": {key: study.config["experiments"][key] for key in experiments},
            }
        ),
    )


def _experiment(sources: Sources, name: str) -> ExperimentSection:
    study = sources.study
    text = caption(sources.templates / "experiment.rst", study.config, {"experiment": name}, {})
    datasets = sorted({point.dataset for point in study.experiments[name].points})
    return ExperimentSection(
        name=name,
        figures=[_figure(sources, figure, text) for figure in sources.products[name]["figures"]],
        downloads=[
            table_download(Path(paths.TABLE.format(name=table)), table)
            for table in sources.products[name]["tables"]
        ],
        provenance=sources.provenance([name], datasets),
        config=yaml_text({"experiments": {name: study.config["experiments"][name]}}),
    )
