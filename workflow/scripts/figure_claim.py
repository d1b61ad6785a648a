"""Draw the figure of a claim from its table and its findings."""

from importlib import import_module

import pandas as pd

from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save

with reported(snakemake.log[0]):
    params = snakemake.params
    look = Look.read(params.look)
    spec = ClaimSpec.read(params.plan, params.analysis, params.seed)
    claim = import_module(f"intrinsic_lr.claims.{spec.name}")
    table, findings = map(pd.read_csv, (snakemake.input.table, snakemake.input.findings))
    save(claim.draw(table, spec, findings, look=look), snakemake.output, look)
