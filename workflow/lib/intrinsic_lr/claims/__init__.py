"""The claims of the study, one module each: measure -> judge -> draw.

`study.claims` says what is claimed and what each test needs, `shared.spec` hands a test its data and settings,
`shared.verdicts` turns estimates into verdicts. The module `claims/<name>.py` of a claim has

- `measure(data: ClaimData) -> DataFrame`: the claim's tidy table, one row per replicate where there are some; the
  column `part` tells kinds of rows. What it needs of its experiments `study.claim_needs` has checked;
- `judge(table, spec: ClaimSpec)`: yields its findings, criteria and controls, computed from that table alone. What
  is missing, or not finite where it has to be, leaves a finding inconclusive;
- `draw(table, spec, findings) -> Figure`.
"""
