rule claim:
    input:
        lambda w: inputs(RESULTS.of_claim(w.claim)),
    output:
        table=paths.TABLE.format(name="{claim}"),
        findings=paths.FINDINGS,
    log:
        "results/logs/claim/{claim}.log",
    benchmark:
        "results/benchmarks/claim/{claim}.tsv"
    conda:
        CONDA
    threads: config["threads"]
    resources:
        device=lambda w: config["device"] if RESULTS.computes(w.claim) else "cpu",
    params:
        plan=lambda w: STUDY.describe_claim(w.claim),
        analysis=ANALYSIS,
        seed=config["seed"],
        code=lambda w: code("claim.py", f"intrinsic_lr.claims.{w.claim}"),
    script:
        "../scripts/claim.py"


rule figure_claim:
    input:
        table=paths.TABLE.format(name="{claim}"),
        findings=paths.FINDINGS,
    output:
        reported_figure("{claim}", "claim.rst", "Claims"),
    log:
        "results/logs/figure_claim/{claim}.log",
    benchmark:
        "results/benchmarks/figure_claim/{claim}.tsv"
    conda:
        CONDA
    params:
        plan=lambda w: STUDY.describe_claim(w.claim),
        analysis=ANALYSIS,
        seed=config["seed"],
        statement=lambda w: CLAIMS[w.claim].statement,
        captions=lambda w: STUDY.captions(w.claim),
        look=STUDY.look,
        code=lambda w: code("figure_claim.py", f"intrinsic_lr.claims.{w.claim}"),
    script:
        "../scripts/figure_claim.py"


rule scorecard:
    input:
        findings=RESULTS.findings,
        compared=[paths.TABLE.format(name=claim) for claim in RESULTS.compared],
    output:
        claims=reported(paths.SCORECARD, "scorecard.rst", "Scorecard", table="claims"),
        controls=reported(
            paths.CONTROLS, "scorecard.rst", "Scorecard", table="controls"
        ),
        paper=paths.PAPER,
    log:
        "results/logs/scorecard.log",
    benchmark:
        "results/benchmarks/scorecard.tsv"
    conda:
        CONDA
    params:
        statements={claim: CLAIMS[claim].statement for claim in STUDY.claims},
        plans={claim: STUDY.describe_claim(claim) for claim in RESULTS.compared},
        datasets={name: STUDY.dataset_spec(name) for name in STUDY.datasets},
        models={name: STUDY.model_text(name) for name in config["models"]},
        analysis=ANALYSIS,
        seed=config["seed"],
        code=code("scorecard.py"),
    script:
        "../scripts/scorecard.py"


rule figure_scorecard:
    input:
        claims=paths.SCORECARD,
        controls=paths.CONTROLS,
    output:
        reported_figure("scorecard", "scorecard.rst", "Scorecard"),
    log:
        "results/logs/figure_scorecard.log",
    benchmark:
        "results/benchmarks/figure_scorecard.tsv"
    conda:
        CONDA
    params:
        look=STUDY.look,
        code=code("figure_scorecard.py"),
    script:
        "../scripts/figure_scorecard.py"
