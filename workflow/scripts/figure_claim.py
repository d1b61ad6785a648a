"""Draw the figure of one claim."""

from importlib import import_module

import pandas as pd

from intrinsic_lr.claims.question import Inputs
from intrinsic_lr.reporting import reported
from intrinsic_lr.style import save

with reported(snakemake.log[0]):
    parameters = snakemake.params
    question = Inputs.read(parameters.plan, parameters.analysis, parameters.seed, [], "cpu", 1).question
    claim = import_module(f"intrinsic_lr.claims.{question.name}")
    table, findings = pd.read_csv(snakemake.input.table), pd.read_csv(snakemake.input.findings)
    save(claim.draw(table, question, findings), snakemake.output)
