"""Captions: templates that quote the config, as Snakemake's own report renders them too."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined


def caption(template: Path, config: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Return a caption as HTML.

    Args:
        template: reStructuredText with the expressions of Jinja, in which `snakemake` stands for a finished job.
        config: the config.
        params: those of the job.
    """
    job = SimpleNamespace(config=config, params=SimpleNamespace(**params))
    environment = Environment(undefined=StrictUndefined)
    text = environment.from_string(template.read_text(encoding="utf-8")).render(snakemake=job)
    # A mistake in a caption ends the program instead of standing in the page.
    settings = {"report_level": 2, "halt_level": 2, "file_insertion_enabled": False, "raw_enabled": False}
    return publish_parts(text, writer="html5", settings_overrides=settings)["body"]
