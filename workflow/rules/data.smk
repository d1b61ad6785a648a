# Read here, so that a mistake in a folder of images is named before any job.
try:
    SOURCES = {name: STUDY.data_source(name) for name in STUDY.datasets}
except InputError as error:
    sys.exit(f"error: {error}")


rule prepare_data:
    output:
        data=paths.DATA,
        info=paths.DATA_INFO,
    log:
        "results/logs/prepare_data/{dataset}.log",
    benchmark:
        "results/benchmarks/prepare_data/{dataset}.tsv"
    conda:
        CONDA
    params:
        spec=lambda w: SOURCES[w.dataset],
        version=DATA_VERSION,
    shell:
        "intrinsic-lr prepare --name {wildcards.dataset} --spec {params.spec:q}"
        " --data {output.data:q} --info {output.info:q} 2> {log:q}"
