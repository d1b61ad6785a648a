"""Measure: the tables of one analysis of one experiment."""

from intrinsic_lr.analyses.tables import AnalysisData, with_axes, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.leases import leased
from intrinsic_lr.core.user_code import module

with (
    reported(snakemake.log[0]),
    leased(snakemake.resources.device, snakemake.config["jobs_per_device"]) as device,
):
    params = snakemake.params
    files, threads = snakemake.input, snakemake.threads
    data = AnalysisData.read(params.experiment, files, params.settings, device, threads, params.seed)
    with module(params.module, params.own) as analysis:
        tables = analysis.measure(data)
    for name, file in snakemake.output.items():
        write_table(with_axes(tables[name], data.experiment.points), file)
