# ESM-2 on Megatron-core. Only final/ is declared, because it is written last: checkpoints lie beside it, undeclared, so
# that a retry resumes from the newest complete one instead of starting over.

TRAIN = f"{RESULTS}/train"


rule train:
    input:
        shards=rules.shard.output.shards,
        manifest=rules.shard.output.manifest,
        lineage=ancient(lineage_of("shard")),
        init=initial_weights(),
    output:
        final=directory(f"{TRAIN}/final"),
    log:
        f"{LOGS}/train/train.log",
    benchmark:
        f"{BENCHMARKS}/train/train.tsv"
    # With apptainer this rule starts its container itself, see `within_container`.
    container:
        None if APPTAINER else IMAGE
    threads: CONFIG.train.parallel.processes_per_node
    resources:
        nodes=CONFIG.train.parallel.nodes,
        # On Slurm: one task a node, and no srun around the job (which `mpi` means even when empty), because
        # `unirefine train` calls it.
        tasks=CONFIG.train.parallel.nodes,
        mpi="",
        mem_mb=8000,
        runtime="7d",
    params:
        config=block("train"),
        shards=lambda wildcards, input: up(input.manifest),
        directory=lambda wildcards, output: up(output.final),
        start=within_container,
    shell:
        "{params.start} unirefine train --config {params.config:q} --shards {params.shards} --output {params.directory}"
        " 2>&1 | tee {log}"
