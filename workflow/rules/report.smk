def report_products():
    """For each experiment with analyses the names of its figures and of its tables."""
    products = {}
    for kind, named in (("figures", STUDY.figures), ("tables", STUDY.tables)):
        for name, (_, experiment) in named.items():
            of_experiment = products.setdefault(
                experiment, {"figures": [], "tables": []}
            )
            of_experiment[kind].append(name)
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
