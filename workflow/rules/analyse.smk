# One rule for each analysis that measures, and one that draws all its figures of an experiment. A new analysis is a
# module of intrinsic_lr.analyses and its line in intrinsic_lr.study.analyses, or a file that the config names.
for analysis, spec in STUDY.analyses.items():
    called = f"own_{analysis}" if spec.own else analysis
    source = f"intrinsic_lr.analyses.{analysis}"

    rule:
        name:
            called
        input:
            analysis_files(analysis),
        output:
            **{
                table: STUDY.paths.table(f"{table}_{{experiment}}")
                for table in spec.tables
            },
        log:
            STUDY.paths.log(f"{analysis}/{{experiment}}"),
        benchmark:
            STUDY.paths.benchmark(f"{analysis}/{{experiment}}")
        wildcard_constraints:
            experiment=one_of(STUDY.with_analysis(analysis)),
        conda:
            CONDA
        threads: config["threads"] if spec.threads else 1
        resources:
            device=config["device"] if spec.device else "cpu",
        params:
            module=source,
            own=list(spec.own),
            experiment=lambda w: STUDY.describe(w.experiment),
            settings={name: SETTINGS[name] for name in spec.settings},
            seed=config["seed"],
            code=code_of("analysis.py", source, spec.own),
        script:
            "../scripts/analysis.py"

    rule:
        name:
            f"figure_{called}"
        input:
            STUDY.paths.table(f"{spec.draws_from}_{{experiment}}"),
        output:
            **{
                figure: reported_figure(
                    f"{figure}_{{experiment}}", "experiment.rst", "Analyses"
                )
                for figure in spec.figures
            },
        log:
            STUDY.paths.log(f"figure_{analysis}/{{experiment}}"),
        benchmark:
            STUDY.paths.benchmark(f"figure_{analysis}/{{experiment}}")
        wildcard_constraints:
            experiment=one_of(STUDY.with_analysis(analysis)),
        conda:
            figures_conda(spec)
        params:
            module=source,
            own=list(spec.own),
            experiment=lambda w: STUDY.describe(w.experiment),
            caption=caption_of(analysis),
            confidence=SETTINGS["confidence"],
            look=STUDY.look,
            code=code_of("figures.py", source, spec.own),
        script:
            "../scripts/figures.py"
