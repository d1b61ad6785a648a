"""Set the numbers that the sources give beside those of this study."""

import json
from pathlib import Path

import pandas as pd

from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.claims.shared.paper import Judged, side_by_side
from intrinsic_lr.claims.shared.question import Question
from intrinsic_lr.core.job_log import reported

with reported(snakemake.log[0]):
    params = snakemake.params
    judged = {}
    for table, findings in zip(snakemake.input.tables, snakemake.input.findings, strict=True):
        plan = json.loads(params.plans[Path(table).stem])
        question = Question(**plan, analysis=params.analysis, seed=params.seed)
        judged[question.name] = Judged(question, pd.read_csv(table, low_memory=False), pd.read_csv(findings))
    write_table(side_by_side(judged, params.datasets, params.models), snakemake.output[0])
