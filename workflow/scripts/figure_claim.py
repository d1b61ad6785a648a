"""Draw the figure of a claim from its table and its findings."""

from importlib import import_module

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save

with reported(snakemake.log[0]):
    params = snakemake.params
    look = Look.read(params.look)
    spec = ClaimSpec.read(params.plan, params.analysis, params.seed)
    claim = import_module(f"intrinsic_lr.claims.{spec.name}")
    table, findings = map(read_table, (snakemake.input.table, snakemake.input.findings))
    save(claim.draw(table, spec, findings, look=look), snakemake.output, look)
