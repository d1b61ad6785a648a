"""Put together the page with every verdict, figure and table."""

import os
from contextlib import chdir
from pathlib import Path

from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.storage import atomic_path, note_written
from intrinsic_lr.report.page import Sources, render
from intrinsic_lr.study.study import Study

with reported(snakemake.log[0]):
    # Of a workflow on a git host Snakemake copies the script alone.
    templates = Path(os.environ["INTRINSIC_LR_SOURCE"], "workflow/report")
    study = Study.read(snakemake.config, Path("results"))
    # A workflow that uses this one as a module may put a prefix before all its results.
    with chdir(snakemake.output[0].removesuffix(study.paths.report) or "."):
        page = render(Sources(study, snakemake.params.products, templates))
    with atomic_path(snakemake.output[0]) as temporary:
        temporary.write_text(page, encoding="utf-8")
    note_written(snakemake.output[0])
