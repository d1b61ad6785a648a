"""Draw the scorecard: the verdict on every claim, and the verdicts on its controls."""

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.claims.shared.scorecard_figure import scorecard_figure
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save

with reported(snakemake.log[0]):
    look = Look.read(snakemake.params.look)
    claims, controls = read_table(snakemake.input.claims), read_table(snakemake.input.controls)
    save(scorecard_figure(claims, controls, look=look), snakemake.output, look)
