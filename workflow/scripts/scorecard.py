"""Gather the findings of all claims: a verdict per claim, and the controls."""

from pathlib import Path

import pandas as pd

from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.claims.shared.verdicts import controls, scorecard
from intrinsic_lr.core.job_log import reported

with reported(snakemake.log[0]):
    findings = {Path(file).stem: pd.read_csv(file) for file in snakemake.input}
    write_table(scorecard(findings, snakemake.params.statements), snakemake.output.claims)
    write_table(controls(findings), snakemake.output.controls)
