rule curves:
    input:
        ensemble(paths.HISTORY, paths.RUN),
    output:
        table=paths.TABLE.format(name="curves_{experiment}"),
    log:
        "results/logs/curves/{experiment}.log",
    benchmark:
        "results/benchmarks/curves/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("curves")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("curves.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        analysis=config["analysis"],
    script:
        "../scripts/curves.py"


rule grid:
    input:
        ensemble(paths.HISTORY, paths.RUN),
    output:
        table=paths.TABLE.format(name="grid_{experiment}"),
    log:
        "results/logs/grid/{experiment}.log",
    benchmark:
        "results/benchmarks/grid/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("grid")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("grid.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        analysis=config["analysis"],
    script:
        "../scripts/grid.py"


rule phase:
    input:
        ensemble(paths.TRACE, paths.RUN),
    output:
        table=paths.TABLE.format(name="phase_{experiment}"),
    log:
        "results/logs/phase/{experiment}.log",
    benchmark:
        "results/benchmarks/phase/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("phase")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("phase.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        analysis=config["analysis"],
    script:
        "../scripts/phase.py"


rule swa:
    input:
        ensemble(paths.CHECKPOINTS, paths.RUN),
        data=ancient(datasets_of_experiment(paths.DATA)),
        info=datasets_of_experiment(paths.DATA_INFO),
    output:
        table=paths.TABLE.format(name="swa_{experiment}"),
        summary=paths.TABLE.format(name="swa_summary_{experiment}"),
    log:
        "results/logs/swa/{experiment}.log",
    benchmark:
        "results/benchmarks/swa/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("swa")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    threads: config["threads"]
    resources:
        device=config["device"],
    params:
        code=code("swa.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        analysis=config["analysis"],
    script:
        "../scripts/swa.py"


rule distance:
    input:
        ensemble(paths.CHECKPOINTS, paths.RUN),
    output:
        table=paths.TABLE.format(name="distance_{experiment}"),
        across=paths.TABLE.format(name="distance_across_{experiment}"),
        summary=paths.TABLE.format(name="distance_summary_{experiment}"),
    log:
        "results/logs/distance/{experiment}.log",
    benchmark:
        "results/benchmarks/distance/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("distance")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    threads: config["threads"]
    params:
        code=code("distance.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        analysis=config["analysis"],
    script:
        "../scripts/distance.py"


rule epochs:
    input:
        ensemble(paths.CHECKPOINTS, paths.PREDICTIONS, paths.EXTRACT, paths.RUN),
        data=ancient(datasets_of_experiment(paths.DATA)),
        info=datasets_of_experiment(paths.DATA_INFO),
    output:
        table=paths.TABLE.format(name="epochs_{experiment}"),
    log:
        "results/logs/epochs/{experiment}.log",
    benchmark:
        "results/benchmarks/epochs/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("epochs")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    threads: config["threads"]
    params:
        code=code("epochs.py"),
        spec=lambda w: STUDY.describe(w.experiment),
    script:
        "../scripts/epochs.py"


rule disagreement:
    input:
        ensemble(paths.PREDICTIONS, paths.EXTRACT, paths.RUN),
        data=ancient(datasets_of_experiment(paths.DATA)),
        info=datasets_of_experiment(paths.DATA_INFO),
    output:
        table=paths.TABLE.format(name="disagreement_{experiment}"),
    log:
        "results/logs/disagreement/{experiment}.log",
    benchmark:
        "results/benchmarks/disagreement/{experiment}.tsv"
    wildcard_constraints:
        experiment=one_of(STUDY.with_analysis("disagreement")),
    conda:
        "../../envs/intrinsic-lr.yaml"
    params:
        code=code("disagreement.py"),
        spec=lambda w: STUDY.describe(w.experiment),
        analysis=config["analysis"],
        seed=config["seed"],
    script:
        "../scripts/disagreement.py"
