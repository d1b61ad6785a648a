LIBRARY_CHECKSUM = library_checksum()


# Judging and drawing are one job: what the drawing takes is mostly the start of a job.
rule claim:
    input:
        claim_files,
    output:
        table=paths.TABLE.format(name="{claim}"),
        findings=paths.FINDINGS,
        figure=paths.figure_files("{claim}"),
    log:
        "results/logs/claim/{claim}.log",
    benchmark:
        "results/benchmarks/claim/{claim}.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    threads: config["threads"]
    resources:
        device=config["device"],
    params:
        plan=lambda w: STUDY.describe_claim(w.claim),
        analysis=config["analysis"],
        seed=config["seed"],
        library=LIBRARY_CHECKSUM,
    script:
        "../scripts/claim.py"


rule scorecard:
    input:
        wanted_findings(),
    output:
        claims=paths.SCORECARD,
        controls=paths.CONTROLS,
    log:
        "results/logs/scorecard.log",
    benchmark:
        "results/benchmarks/scorecard.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        statements={claim: CLAIMS[claim].statement for claim in STUDY.claims},
        library=LIBRARY_CHECKSUM,
    script:
        "../scripts/scorecard.py"


rule figure_scorecard:
    input:
        claims=paths.SCORECARD,
        controls=paths.CONTROLS,
    output:
        paths.figure_files("scorecard"),
    log:
        "results/logs/figure_scorecard.log",
    benchmark:
        "results/benchmarks/figure_scorecard.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    script:
        "../scripts/figure_scorecard.py"
