"""Draw the figures of one analysis of one experiment from its tables."""

from functools import partial

from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.user_code import module
from intrinsic_lr.figures.style import Look, save_drawn
from intrinsic_lr.study.experiment import Experiment

with reported(snakemake.log[0]):
    params = snakemake.params
    look, experiment = Look.read(params.look), Experiment.from_json(params.experiment)
    table = read_table(snakemake.input[0])
    for name, (*files, narrow) in snakemake.output.items():
        with module(params.module, params.own) as analysis:
            draw = partial(getattr(analysis, f"draw_{name}"), table, experiment, params.confidence)
            save_drawn(draw, look, files, narrow)
