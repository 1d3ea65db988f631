# Token shards in Megatron's indexed format, their ids, and the manifest with their hashes.

SHARDS = place("shard")


rule shard:
    input:
        records=all_records(),
        clusters=rules.cluster.output,
        split=rules.decontaminate_remove.output.split,
        # the audit must have passed, but another audit sample does not change the shards
        audit=ancient(f"{DECONTAMINATE}/identity.json"),
        release=rules.release.output,
        lineage=ancient(lineage_of("decontaminate")),
    output:
        shards=expand(
            f"{SHARDS}/{{prefix}}.{{suffix}}",
            prefix=shard_prefixes(),
            suffix=["bin", "idx", "ids.parquet"],
        ),
        manifest=f"{SHARDS}/manifest.json",
        counts=f"{SHARDS}/counts.json",
        lineage=f"{SHARDS}/lineage.json",
    log:
        f"{logs('shard')}/shard.log",
    benchmark:
        f"{benchmarks('shard')}/shard.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="6h",
    params:
        config=block("shard"),
        records=lambda wildcards, input: up(input.records[0], 2),
        clusters=lambda wildcards, input: up(input.clusters[0]),
        directory=lambda wildcards, output: up(output.manifest),
        code=code("shard"),
    shell:
        "unirefine shard build --config {params.config:q} --records {params.records} --clusters {params.clusters}"
        " --split {input.split} --release {input.release} --output {params.directory} --threads {threads}"
        " 2>&1 | tee {log}"
