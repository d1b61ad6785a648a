"""Draw the figure of a claim from its table and its findings."""

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.user_code import module
from intrinsic_lr.figures.style import Look, save

with reported(snakemake.log[0]):
    params = snakemake.params
    look = Look.read(params.look)
    spec = ClaimSpec.read(params.plan, params.analysis, params.seed)
    table, findings = map(read_table, (snakemake.input.table, snakemake.input.findings))
    with module(f"intrinsic_lr.claims.{spec.name}", params.own) as claim:
        figure = claim.draw(table, spec, findings, look=look)
    save(figure, snakemake.output, look)
