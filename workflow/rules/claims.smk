rule claim:
    input:
        claim_files,
    output:
        table=paths.TABLE.format(name="{claim}"),
        findings=paths.FINDINGS,
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
        code=lambda w: code("claim.py", f"intrinsic_lr.claims.{w.claim}"),
    script:
        "../scripts/claim.py"


rule scorecard:
    input:
        wanted_findings(),
    output:
        claims=report(
            paths.SCORECARD,
            caption="../report/scorecard.rst",
            category="Scorecard",
            labels={"table": "claims"},
        ),
        controls=report(
            paths.CONTROLS,
            caption="../report/scorecard.rst",
            category="Scorecard",
            labels={"table": "controls"},
        ),
    log:
        "results/logs/scorecard.log",
    benchmark:
        "results/benchmarks/scorecard.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        statements={claim: CLAIMS[claim].statement for claim in STUDY.claims},
        code=code("scorecard.py"),
    script:
        "../scripts/scorecard.py"


rule paper_vs_here:
    input:
        tables=[paths.TABLE.format(name=claim) for claim in compared_claims()],
        findings=[paths.FINDINGS.format(claim=claim) for claim in compared_claims()],
    output:
        paths.PAPER,
    log:
        "results/logs/paper_vs_here.log",
    benchmark:
        "results/benchmarks/paper_vs_here.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        plans={claim: STUDY.describe_claim(claim) for claim in compared_claims()},
        datasets={name: STUDY.dataset_spec(name) for name in STUDY.datasets},
        models={name: STUDY.model_text(name) for name in config["models"]},
        analysis=config["analysis"],
        seed=config["seed"],
        code=code("paper_vs_here.py"),
    script:
        "../scripts/paper_vs_here.py"
