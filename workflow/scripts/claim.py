"""Test one claim: measure what it is about, and judge it."""

from pathlib import Path

from intrinsic_lr.analyses.tables import with_axes, write_table
from intrinsic_lr.claims.shared.spec import ClaimData
from intrinsic_lr.claims.shared.verdicts import findings_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.leases import leased
from intrinsic_lr.core.user_code import module

with reported(snakemake.log[0]), leased(snakemake.resources.device, snakemake.config["jobs_per_device"]) as device:
    params, files = snakemake.params, snakemake.input
    data = ClaimData.read(params.plan, params.analysis, params.seed, files, device, snakemake.threads)
    spec = data.spec
    data.check_invariance()
    with module(f"intrinsic_lr.claims.{spec.name}", params.own) as claim:
        table = claim.measure(data)
        findings = list(claim.judge(table, spec))
    points = [point for experiment in spec.experiments.values() for point in experiment.points]
    write_table(with_axes(table, points), snakemake.output.table)
    folder = Path(snakemake.output.table).parents[1]
    figure = f"{folder}/figures/{spec.name}.svg"
    write_table(findings_table(spec.name, spec.source, figure, findings), snakemake.output.findings)
