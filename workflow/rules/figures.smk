rule figure_curves:
    input:
        table=paths.TABLE.format(name="curves_{experiment}"),
    output:
        figure_files("curves_{experiment}"),
    log:
        "results/logs/figure_curves/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_curves/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("curves")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_curves.py"


rule figure_swa:
    input:
        table=paths.TABLE.format(name="swa_summary_{experiment}"),
    output:
        figure_files("swa_{experiment}"),
    log:
        "results/logs/figure_swa/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_swa/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("swa")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_swa.py"


rule figure_distance:
    input:
        table=paths.TABLE.format(name="distance_summary_{experiment}"),
    output:
        figure_files("distance_{experiment}"),
    log:
        "results/logs/figure_distance/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_distance/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("distance")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_distance.py"


rule figure_epochs:
    input:
        table=paths.TABLE.format(name="epochs_{experiment}"),
    output:
        figure_files("epochs_{experiment}"),
    log:
        "results/logs/figure_epochs/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_epochs/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("epochs")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_epochs.py"


rule figure_total_variation:
    input:
        table=paths.TABLE.format(name="disagreement_{experiment}"),
    output:
        figure_files("total_variation_{experiment}"),
    log:
        "results/logs/figure_total_variation/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_total_variation/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("disagreement")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_total_variation.py"


rule figure_disagreement:
    input:
        table=paths.TABLE.format(name="disagreement_{experiment}"),
    output:
        figure_files("disagreement_{experiment}"),
    log:
        "results/logs/figure_disagreement/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_disagreement/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("disagreement")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_disagreement.py"


rule figure_grid:
    input:
        table=paths.TABLE.format(name="grid_{experiment}"),
    output:
        figure_files("grid_{experiment}"),
    log:
        "results/logs/figure_grid/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_grid/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("grid")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_grid.py"


rule figure_phase:
    input:
        table=paths.TABLE.format(name="phase_{experiment}"),
    output:
        figure_files("phase_{experiment}"),
    log:
        "results/logs/figure_phase/{experiment}.log",
    benchmark:
        "results/benchmarks/figure_phase/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("phase")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        spec=lambda w: STUDY.describe(w.experiment),
        look=STUDY.look,
    script:
        "../scripts/figure_phase.py"


rule figure_claim:
    input:
        table=paths.TABLE.format(name="{claim}"),
        findings=paths.FINDINGS,
    output:
        figure_files("{claim}"),
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
        look=STUDY.look,
        library=LIBRARY_CHECKSUM,
    script:
        "../scripts/figure_claim.py"


rule figure_scorecard:
    input:
        claims=paths.SCORECARD,
        controls=paths.CONTROLS,
    output:
        figure_files("scorecard"),
    log:
        "results/logs/figure_scorecard.log",
    benchmark:
        "results/benchmarks/figure_scorecard.tsv"
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        look=STUDY.look,
    script:
        "../scripts/figure_scorecard.py"
