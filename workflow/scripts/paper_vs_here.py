"""Set the numbers that the sources give beside those of this study."""

from pathlib import Path

import pandas as pd

from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.claims.shared.paper import Judged, side_by_side
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.core.job_log import reported

with reported(snakemake.log[0]):
    params = snakemake.params
    judged = {}
    for table, findings in zip(snakemake.input.tables, snakemake.input.findings, strict=True):
        spec = ClaimSpec.read(params.plans[Path(table).stem], params.analysis, params.seed)
        judged[spec.name] = Judged(spec, pd.read_csv(table, low_memory=False), pd.read_csv(findings))
    write_table(side_by_side(judged, params.datasets, params.models), snakemake.output[0])
