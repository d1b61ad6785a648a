rule report:
    input:
        RESULTS.figures,
        RESULTS.tables,
        RESULTS.findings,
        RESULTS.scorecards,
        RESULTS.runs,
        [paths.DATA_INFO.format(dataset=name) for name in STUDY.datasets],
        # The images on which runs disagree.
        [
            inputs(RESULTS.of_analysis("disagreement", name))
            for name in STUDY.with_analysis("disagreement")
        ],
    output:
        STUDY.paths.report,
    log:
        STUDY.paths.log("report"),
    benchmark:
        STUDY.paths.benchmark("report")
    conda:
        FIGURES_CONDA
    params:
        experiments=[STUDY.describe(name) for name in STUDY.experiments],
        plans=[STUDY.describe_claim(claim) for claim in STUDY.claims],
        products=RESULTS.products(),
        words=config.get("report"),
        page=closure.tree(ROOT / "workflow" / "report"),
        code=code("report.py"),
    script:
        "../scripts/report.py"
