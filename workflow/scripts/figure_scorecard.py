"""Draw the scorecard: the verdict on every claim, and the verdicts on its controls."""

from functools import partial

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.claims.shared.scorecard_figure import scorecard_figure
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save_drawn

with reported(snakemake.log[0]):
    look = Look.read(snakemake.params.look)
    claims, controls = read_table(snakemake.input.claims), read_table(snakemake.input.controls)
    *files, narrow = snakemake.output
    save_drawn(partial(scorecard_figure, claims, controls, snakemake.params.alpha), look, files, narrow)
