from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/tensorboard.smk"
include: "workflow/rules/report.smk"


onstart:
    announce()


rule all:
    default_target: True
    input:
        figures=wanted_figures(),
        tables=wanted_tables(),
        claims=scorecards(),
        events=wanted_events(),
        report=paths.REPORT,


rule tables:
    input:
        wanted_tables(),


rule trainings:
    input:
        [paths.RUN.format(point=point, block=block) for point, block in all_blocks()],
