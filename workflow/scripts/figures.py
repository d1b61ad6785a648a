"""Draw the figures of one analysis of one experiment from its tables."""

from importlib import import_module

import pandas as pd

from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save
from intrinsic_lr.study.experiment import Experiment

with reported(snakemake.log[0]):
    params = snakemake.params
    look, experiment = Look.read(params.look), Experiment.from_json(params.experiment)
    tables = {name: pd.read_csv(file) for name, file in snakemake.input.items()}
    analysis = import_module(f"intrinsic_lr.analyses.{params.analysis}")
    for name, figure in analysis.draw(tables, experiment, look).items():
        save(figure, snakemake.output[name], look)
