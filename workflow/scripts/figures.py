"""Draw the figures of one analysis of one experiment from its tables."""

from importlib import import_module

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.figures.style import Look, save
from intrinsic_lr.study.experiment import Experiment

with reported(snakemake.log[0]):
    params = snakemake.params
    look, experiment = Look.read(params.look), Experiment.from_json(params.experiment)
    table = read_table(snakemake.input[0])
    analysis = import_module(f"intrinsic_lr.analyses.{params.analysis}")
    for name, files in snakemake.output.items():
        save(getattr(analysis, f"draw_{name}")(table, experiment, params.confidence, look=look), files, look)
