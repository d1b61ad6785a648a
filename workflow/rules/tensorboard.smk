from snakemake.settings.types import DeploymentMethod

OWN_ENVIRONMENT = (
    DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
)

if config["tensorboard"] and not OWN_ENVIRONMENT:
    # It imports pandas, which other studies need not wait for.
    from intrinsic_lr.commands import tensorboard as events

    try:
        events.check_installed()
    except InputError as error:
        sys.exit(f"error: {error}")


rule tensorboard:
    input:
        history=paths.HISTORY,
        run=paths.RUN,
    output:
        paths.EVENTS,
    log:
        "results/logs/tensorboard/{point}/block_{block}.log",
    benchmark:
        "results/benchmarks/tensorboard/{point}/block_{block}.tsv"
    conda:
        "../../envs/intrinsic-lr-tensorboard.yaml"
    params:
        code=closure.checksum("intrinsic_lr.commands.tensorboard"),
    shell:
        "intrinsic-lr tensorboard --run $(dirname {input.run:q}) --out {output:q} 2> {log:q}"
