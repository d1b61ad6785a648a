# One rule for each analysis that measures, and one that draws all its figures of an experiment. A new analysis is a
# module of intrinsic_lr.analyses and its line in intrinsic_lr.study.analyses.
for analysis, spec in ANALYSES.items():

    rule:
        name:
            analysis
        input:
            analysis_files(analysis),
        output:
            **{
                table: paths.TABLE.format(name=f"{table}_{{experiment}}")
                for table in spec.tables
            },
        log:
            f"results/logs/{analysis}/{{experiment}}.log",
        benchmark:
            f"results/benchmarks/{analysis}/{{experiment}}.tsv"
        wildcard_constraints:
            experiment=one_of(STUDY.with_analysis(analysis)),
        conda:
            CONDA
        threads: config["threads"] if spec.threads else 1
        resources:
            device=config["device"] if spec.device else "cpu",
        params:
            analysis=analysis,
            experiment=lambda w: STUDY.describe(w.experiment),
            settings={name: SETTINGS[name] for name in spec.settings},
            seed=config["seed"],
            code=code("analysis.py", f"intrinsic_lr.analyses.{analysis}"),
        script:
            "../scripts/analysis.py"

    rule:
        name:
            f"figure_{analysis}"
        input:
            paths.TABLE.format(name=f"{spec.draws_from}_{{experiment}}"),
        output:
            **{
                figure: reported_figure(
                    f"{figure}_{{experiment}}", "experiment.rst", "Analyses"
                )
                for figure in spec.figures
            },
        log:
            f"results/logs/figure_{analysis}/{{experiment}}.log",
        benchmark:
            f"results/benchmarks/figure_{analysis}/{{experiment}}.tsv"
        wildcard_constraints:
            experiment=one_of(STUDY.with_analysis(analysis)),
        conda:
            CONDA
        params:
            analysis=analysis,
            experiment=lambda w: STUDY.describe(w.experiment),
            caption=caption_of(analysis),
            confidence=SETTINGS["confidence"],
            look=STUDY.look,
            code=code("figures.py", f"intrinsic_lr.analyses.{analysis}"),
        script:
            "../scripts/figures.py"
