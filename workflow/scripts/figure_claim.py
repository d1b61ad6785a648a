"""Draw the figure of a claim from its table and its findings."""

import json
from importlib import import_module

import pandas as pd

from intrinsic_lr.claims.shared.question import Question
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save

with reported(snakemake.log[0]):
    params = snakemake.params
    look = Look.read(params.look)
    question = Question(**json.loads(params.plan), analysis=params.analysis, seed=params.seed)
    claim = import_module(f"intrinsic_lr.claims.{question.name}")
    table, findings = map(pd.read_csv, (snakemake.input.table, snakemake.input.findings))
    save(claim.draw(table, question, findings, look=look), snakemake.output, look)
