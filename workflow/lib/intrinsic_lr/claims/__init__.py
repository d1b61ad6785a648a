"""The claims of the study, one module each: measure -> judge -> draw.

`catalogue` says what is claimed and what each test needs, `spec` hands a test its data and settings,
`verdicts` turns estimates into verdicts. The module `claims/<name>.py` of a claim has

- `measure(data) -> DataFrame`: the claim's tidy table, one row per replicate wherever there are replicates;
- `judge(table, spec) -> list[Finding]`: criteria and controls, computed from that table alone;
- `draw(table, spec, findings) -> Figure`.
"""
