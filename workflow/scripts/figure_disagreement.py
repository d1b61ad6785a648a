"""Draw the figure `disagreement` of an experiment."""

import json

import pandas as pd

from intrinsic_lr.plots import disagreement_figure, save
from intrinsic_lr.reporting import reported

with reported(snakemake.log[0]):
    save(
        disagreement_figure(pd.read_csv(snakemake.input.table), json.loads(snakemake.params.spec)),
        snakemake.output,
    )
