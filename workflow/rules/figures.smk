rule figure_curves:
    input:
        table=paths.TABLE.format(name="curves_{experiment}"),
    output:
        reported_figure("curves_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_curves/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_curves/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("curves")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_curves.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_curves.py"


rule figure_swa:
    input:
        table=paths.TABLE.format(name="swa_summary_{experiment}"),
    output:
        reported_figure("swa_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_swa/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_swa/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("swa")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_swa.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_swa.py"


rule figure_distance:
    input:
        table=paths.TABLE.format(name="distance_summary_{experiment}"),
    output:
        reported_figure("distance_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_distance/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_distance/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("distance")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_distance.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_distance.py"


rule figure_epochs:
    input:
        table=paths.TABLE.format(name="epochs_{experiment}"),
    output:
        reported_figure("epochs_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_epochs/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_epochs/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("epochs")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_epochs.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_epochs.py"


rule figure_total_variation:
    input:
        table=paths.TABLE.format(name="disagreement_{experiment}"),
    output:
        reported_figure("total_variation_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_total_variation/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_total_variation/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("disagreement")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_total_variation.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_total_variation.py"


rule figure_disagreement:
    input:
        table=paths.TABLE.format(name="disagreement_{experiment}"),
    output:
        reported_figure("disagreement_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_disagreement/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_disagreement/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("disagreement")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_disagreement.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_disagreement.py"


rule figure_grid:
    input:
        table=paths.TABLE.format(name="grid_{experiment}"),
    output:
        reported_figure("grid_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_grid/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_grid/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("grid")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_grid.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_grid.py"


rule figure_phase:
    input:
        table=paths.TABLE.format(name="phase_{experiment}"),
    output:
        reported_figure("phase_{experiment}", "experiment.rst", "Analyses"),
    log:
        "results/logs/figure_phase/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_phase/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("phase")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_phase.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_phase.py"


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
        "../../envs/intrinsic-lr.yaml"
    params:
        plan=lambda w: STUDY.describe_claim(w.claim),
        analysis=config["analysis"],
        seed=config["seed"],
        statement=lambda w: CLAIMS[w.claim].statement,
        look=STUDY.look,
        code=lambda w: code("figure_claim.py", f"intrinsic_lr.claims.{w.claim}"),
    script:
        "../scripts/figure_claim.py"


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
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("figure_scorecard.py"),
        look=STUDY.look,
    script:
        "../scripts/figure_scorecard.py"
