"""Draw the figure `epochs` of an experiment."""

import json

import pandas as pd

from intrinsic_lr.plots import epochs_figure
from intrinsic_lr.reporting import reported
from intrinsic_lr.style import save

with reported(snakemake.log[0]):
    save(epochs_figure(pd.read_csv(snakemake.input.table), json.loads(snakemake.params.spec)), snakemake.output)
