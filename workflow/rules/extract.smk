rule extract:
    input:
        data=ancient(dataset_of_point(paths.DATA)),
        info=dataset_of_point(paths.DATA_INFO),
        checkpoints=ancient(paths.CHECKPOINTS),
        run=paths.RUN,
    output:
        predictions=directory(paths.PREDICTIONS),
        statistics=directory(paths.STATISTICS),
        extract=paths.EXTRACT,
    log:
        "results/logs/extract/{point}/block_{block}.log",
    benchmark:
        "results/benchmarks/extract/{point}/block_{block}.tsv"
    conda:
        CONDA
    threads: config["threads"]
    resources:
        device=config["device"],
        jobs_per_device=config["jobs_per_device"],
    params:
        version=EXTRACT_VERSION,
    shell:
        "intrinsic-lr extract --run $(dirname {input.run:q}) --data {input.data:q}"
        " --info {input.info:q} --device {resources.device}"
        " --jobs-per-device {resources.jobs_per_device} --threads {threads} 2> {log:q}"
