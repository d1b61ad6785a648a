rule train:
    # The content of the data is pinned by the checksum in the small info file, whose bytes the workflow
    # compares; the large file itself is no trigger.
    input:
        data=ancient(dataset_of_point(paths.DATA)),
        info=dataset_of_point(paths.DATA_INFO),
    output:
        checkpoints=directory(paths.CHECKPOINTS),
        history=paths.HISTORY,
        trace=paths.TRACE,
        run=paths.RUN,
    log:
        "results/logs/train/{point}/block_{block}.log",
    benchmark:
        "results/benchmarks/train/{point}/block_{block}.tsv"
    # A training that was stopped has saved its state, and goes on when it is started again.
    retries: RETRIES
    conda:
        CONDA
    threads: config["threads"]
    resources:
        device=config["device"],
        jobs_per_device=config["jobs_per_device"],
        save_every=config["save_every"],
        diverged=config["diverged"],
        # What is said of the data triggers nothing, as a parameter would.
        note=lambda w: STUDY.dataset_note(STUDY.trainings[w.point].point.dataset),
    params:
        plan=lambda w: STUDY.training_plan(w.point, int(w.block)).to_json(),
        version=TRAINING_VERSION,
    # In place of the shell, so that the training sees the workflow end.
    shell:
        "exec intrinsic-lr train --plan {params.plan:q} --data {input.data:q} --info {input.info:q}"
        " --out $(dirname {output.run:q}) --device {resources.device}"
        " --jobs-per-device {resources.jobs_per_device} --threads {threads}"
        " --save-every {resources.save_every} --diverged {resources.diverged} --stop-with-parent"
        " --note={resources.note:q} 2> {log:q}"
