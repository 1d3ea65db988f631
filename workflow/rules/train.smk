# ESM-2 on Megatron-core. Only final/ is declared, which is written last. Checkpoints beside it are undeclared, so that a retry
# resumes from the newest complete one instead of starting over.

TRAIN = PATHS.directory("train")


rule train:
    input:
        shards=rules.shard.output.shards,
        manifest=rules.shard.output.manifest,
        lineage=ancient(PATHS.lineage("shard")),
        init=[local_input(path) for path in PATHS.initial_weights()],
    output:
        final=directory(f"{TRAIN}/final"),
    log:
        f"{PATHS.logs('train')}/train.log",
    benchmark:
        f"{PATHS.benchmarks('train')}/train.tsv"
    # With apptainer this rule starts its containers itself, one a node: `container_prefix`.
    container:
        IMAGE if CALL.apptainer is None else None
    threads: CONFIG.train.parallel.processes_per_node
    resources:
        nodes=CONFIG.train.parallel.nodes,
        # On Slurm: one task a node. `mpi`, even empty, means no srun around the job: `unirefine train` calls it itself.
        tasks=CONFIG.train.parallel.nodes,
        mpi="",
        mem_mb=8000,
        runtime="7d",
    params:
        config=stage_options(CONFIG, "train"),
        shards=lambda wildcards, input: parent(input.manifest),
        directory=lambda wildcards, output: parent(output.final),
        start=lambda wildcards, output, resources: (
            ""
            if CALL.apptainer is None
            else container_prefix(IMAGE, CALL.apptainer, resources.nodes)
        ),
    shell:
        "{params.start} unirefine train --config {params.config:q} --shards {params.shards:q}"
        " --output {params.directory:q} 2>&1 | tee {log:q}"
