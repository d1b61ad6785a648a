"""Sum up all claims: verdicts, controls, and the numbers of the sources beside those of this study."""

from pathlib import Path

from intrinsic_lr.analyses.tables import read_table, write_table
from intrinsic_lr.claims.shared.paper import Judged, side_by_side
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import controls, scorecard
from intrinsic_lr.core.job_log import reported

with reported(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    findings = {Path(file).stem: read_table(file) for file in snakemake.input.findings}
    write_table(scorecard(findings, params.statements), output.claims)
    write_table(controls(findings), output.controls)
    judged = {}
    for file in map(Path, snakemake.input.compared):
        spec = ClaimSpec.read(params.plans[file.stem], params.analysis, params.seed)
        judged[spec.name] = Judged(spec, read_table(file), findings[spec.name])
    write_table(side_by_side(judged, params.datasets, params.models), output.paper)
