def report_products():
    """For each experiment with analyses the names of its figures and of its tables."""
    products = {}
    for analysis, (tables, figures) in PRODUCTS.items():
        for experiment in STUDY.with_analysis(analysis):
            of_experiment = products.setdefault(
                experiment, {"figures": [], "tables": []}
            )
            of_experiment["figures"] += [f"{name}_{experiment}" for name in figures]
            of_experiment["tables"] += [f"{name}_{experiment}" for name in tables]
    return products


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
        page=checksum(os.path.join(workflow.basedir, "workflow", "report"), ("",)),
        library=LIBRARY_CHECKSUM,
    script:
        "../scripts/report.py"
