"""Draw the figure of a claim from its table and its findings."""

from functools import partial

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.user_code import module
from intrinsic_lr.figures.style import Look, save_drawn

with reported(snakemake.log[0]):
    params = snakemake.params
    look = Look.read(params.look)
    spec = ClaimSpec.read(params.plan, params.analysis, params.seed)
    table, findings = map(read_table, (snakemake.input.table, snakemake.input.findings))
    *files, narrow = snakemake.output
    with module(f"intrinsic_lr.claims.{spec.name}", params.own) as claim:
        save_drawn(partial(claim.draw, table, spec, findings), look, files, narrow)
