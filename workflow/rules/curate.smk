# Which sequences are removed, and why.

CURATE = place("curate")


rule curate:
    input:
        records=all_records(),
        lineage=ancient([f"{RECORDS}/{level}/lineage.json" for level in LEVELS]),
        taxdump=f"{RELEASE}/taxdump.tar.gz" if CONFIG.release.taxdump else [],
        purge=[
            f"{RELEASE}/purge-{i}.txt" for i in range(len(CONFIG.release.purge_lists))
        ],
        designs=own(CONFIG.curate.designs),
    output:
        kept=expand(f"{CURATE}/{{level}}.parquet", level=LEVELS),
        removed=f"{CURATE}/removed.parquet",
        counts=f"{CURATE}/counts.json",
        lineage=f"{CURATE}/lineage.json",
    log:
        f"{logs('curate')}/curate.log",
    benchmark:
        f"{benchmarks('curate')}/curate.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=8000,
        runtime="6h",
    params:
        config=block("curate"),
        records=lambda wildcards, input: up(input.records[0], 2),
        directory=lambda wildcards, output: up(output.counts),
        levels=LEVELS,
        taxdump=lambda wildcards, input: (
            f"--taxdump {input.taxdump}" if input.taxdump else ""
        ),
        purge=lambda wildcards, input: "".join(
            f" --purge-list {path}" for path in input.purge
        ),
        code=code("curate"),
    shell:
        "unirefine curate --config {params.config:q} --records {params.records} --levels {params.levels}"
        " {params.taxdump}{params.purge} --output {params.directory} --threads {threads} 2>&1 | tee {log}"
