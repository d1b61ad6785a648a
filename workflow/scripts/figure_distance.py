"""Draw the figure `distance` of an experiment."""

import pandas as pd

from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.plots import distance_figure
from intrinsic_lr.figures.style import Look, save
from intrinsic_lr.study.experiment import Experiment

with reported(snakemake.log[0]):
    look = Look.read(snakemake.params.look)
    table, spec = pd.read_csv(snakemake.input.table), Experiment.from_json(snakemake.params.spec)
    save(distance_figure(table, spec, look=look), snakemake.output, look)
