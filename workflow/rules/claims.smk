rule claim:
    input:
        lambda w: inputs(RESULTS.of_claim(w.claim)),
    output:
        table=STUDY.paths.table("{claim}"),
        findings=STUDY.paths.findings("{claim}"),
    log:
        STUDY.paths.log("claim/{claim}"),
    benchmark:
        STUDY.paths.benchmark("claim/{claim}")
    conda:
        CONDA
    threads: config["threads"]
    resources:
        device=lambda w: config["device"] if RESULTS.computes(w.claim) else "cpu",
    params:
        plan=lambda w: STUDY.describe_claim(w.claim),
        analysis=ANALYSIS,
        seed=config["seed"],
        own=lambda w: list(STUDY.catalogue[w.claim].own),
        code=claim_code("claim.py"),
    script:
        "../scripts/claim.py"


rule figure_claim:
    input:
        table=STUDY.paths.table("{claim}"),
        findings=STUDY.paths.findings("{claim}"),
    output:
        reported_figure("{claim}", "claim.rst", "Claims"),
    log:
        STUDY.paths.log("figure_claim/{claim}"),
    benchmark:
        STUDY.paths.benchmark("figure_claim/{claim}")
    conda:
        figures_conda(*(STUDY.catalogue[claim] for claim in STUDY.claims))
    params:
        plan=lambda w: STUDY.describe_claim(w.claim),
        analysis=ANALYSIS,
        seed=config["seed"],
        statement=lambda w: STUDY.catalogue[w.claim].statement,
        captions=lambda w: STUDY.captions(w.claim),
        look=STUDY.look,
        own=lambda w: list(STUDY.catalogue[w.claim].own),
        code=claim_code("figure_claim.py"),
    script:
        "../scripts/figure_claim.py"


rule scorecard:
    input:
        findings=RESULTS.findings,
        compared=[STUDY.paths.table(claim) for claim in RESULTS.compared],
    output:
        claims=reported(
            STUDY.paths.scorecard, "scorecard.rst", "Scorecard", table="claims"
        ),
        controls=reported(
            STUDY.paths.controls, "scorecard.rst", "Scorecard", table="controls"
        ),
        paper=STUDY.paths.paper,
    log:
        STUDY.paths.log("scorecard"),
    benchmark:
        STUDY.paths.benchmark("scorecard")
    conda:
        FIGURES_CONDA
    params:
        statements={claim: STUDY.catalogue[claim].statement for claim in STUDY.claims},
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
        claims=STUDY.paths.scorecard,
        controls=STUDY.paths.controls,
    output:
        reported_figure("scorecard", "scorecard.rst", "Scorecard"),
    log:
        STUDY.paths.log("figure_scorecard"),
    benchmark:
        STUDY.paths.benchmark("figure_scorecard")
    conda:
        FIGURES_CONDA
    params:
        look=STUDY.look,
        alpha=1 - config["analysis"]["confidence"],
        code=code("figure_scorecard.py"),
    script:
        "../scripts/figure_scorecard.py"
