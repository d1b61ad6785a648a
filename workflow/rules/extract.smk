rule extract:
    input:
        data=ancient(dataset_of_point(paths.DATA)),
        info=dataset_of_point(paths.DATA_INFO),
        checkpoints=paths.CHECKPOINTS,
        run=paths.RUN,
    output:
        predictions=paths.PREDICTIONS,
        statistics=paths.STATISTICS,
        extract=paths.EXTRACT,
    params:
        version=EXTRACT_VERSION,
    log:
        "results/logs/extract/{point}/block_{block}.log",
    benchmark:
        "results/benchmarks/extract/{point}/block_{block}.tsv"
    threads: config["threads"]
    conda:
        "../../envs/intrinsic-lr.yaml"
    shell:
        "python -m intrinsic_lr.extract --run $(dirname {input.run:q}) --data {input.data:q}"
        " --info {input.info:q} --device {config[device]} --threads {threads} 2> {log:q}"
