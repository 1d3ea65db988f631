# Tokens on disk: Megatron indexed shards, their ids, and a manifest with the hash of each file.

SHARDS = PATHS.directory("shard")


rule shard:
    input:
        records=PATHS.records(),
        clusters=CLUSTERED,
        split=rules.decontaminate_remove.output.split,
        # the audit must have passed, but another audit sample does not change the shards
        audit=ancient(f"{DECONTAMINATE}/identity.json"),
        release=rules.release.output,
        lineage=ancient(PATHS.lineage("decontaminate")),
    output:
        shards=PATHS.shards(),
        manifest=f"{SHARDS}/manifest.json",
        counts=f"{SHARDS}/counts.json",
        lineage=f"{SHARDS}/lineage.json",
    log:
        f"{PATHS.logs('shard')}/shard.log",
    benchmark:
        f"{PATHS.benchmarks('shard')}/shard.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="6h",
    params:
        config=stage_options(CONFIG, "shard"),
        records=lambda wildcards, input: parent(input.records[0], 2),
        clusters=lambda wildcards, input: parent(input.clusters[0]),
        directory=lambda wildcards, output: parent(output.manifest),
        code=code_digest("shard"),
    shell:
        "unirefine shard build --config {params.config:q} --records {params.records:q} --clusters {params.clusters:q}"
        " --split {input.split:q} --release {input.release:q} --output {params.directory:q} --threads {threads}"
        " 2>&1 | tee {log:q}"
