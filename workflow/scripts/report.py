"""Put together the page with every verdict, figure and table."""

from pathlib import Path

from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.storage import atomic_path, note_written
from intrinsic_lr.report.page import Sources, render
from intrinsic_lr.study.study import Study

with reported(snakemake.log[0]):
    templates = Path(snakemake.scriptdir).parent / "report"
    page = render(Sources(Study.read(snakemake.config, Path("results")), snakemake.params.products, templates))
    with atomic_path(snakemake.output[0]) as temporary:
        temporary.write_text(page, encoding="utf-8")
    note_written(snakemake.output[0])
