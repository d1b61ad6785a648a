rule report:
    input:
        figures=wanted_figures(),
        tables=wanted_tables(),
        findings=wanted_findings(),
        claims=scorecards(),
        runs=[
            paths.RUN.format(point=point, block=block) for point, block in all_blocks()
        ],
        data=[paths.DATA_INFO.format(dataset=name) for name in STUDY.datasets],
    output:
        paths.REPORT,
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        experiments=[STUDY.describe(name) for name in STUDY.experiments],
        plans=[STUDY.describe_claim(claim) for claim in STUDY.claims],
        products=report_products(),
        page=closure.tree(ROOT / "workflow" / "report"),
        code=code("report.py"),
    script:
        "../scripts/report.py"
