"""Test one claim: measure what it is about, and judge it."""

from importlib import import_module

from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.claims.shared.question import Inputs
from intrinsic_lr.claims.shared.verdicts import findings_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.leases import leased
from intrinsic_lr.study.claims import CLAIMS

# Only tests of networks compute on a device; the others read tables.
needed = CLAIMS[snakemake.wildcards.claim].reads_data or "checkpoints" in CLAIMS[snakemake.wildcards.claim].files
device = snakemake.resources.device if needed else "cpu"

with reported(snakemake.log[0]), leased(device, snakemake.config["jobs_per_device"]) as held:
    inputs = Inputs.read(
        snakemake.params.plan,
        snakemake.params.analysis,
        snakemake.params.seed,
        snakemake.input,
        held,
        snakemake.threads,
    )
    question = inputs.question
    claim = import_module(f"intrinsic_lr.claims.{question.name}")
    table = claim.measure(inputs)
    write_table(table, snakemake.output.table)
    findings = claim.judge(table, question)
    figure = f"results/figures/{question.name}.svg"
    write_table(findings_table(question.name, question.source, figure, findings), snakemake.output.findings)
