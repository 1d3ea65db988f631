# Which sequences are removed, and why.

CURATE = PATHS.directory("curate")


rule curate:
    input:
        records=PATHS.records(),
        lineage=ancient(PATHS.level_lineages()),
        taxdump=f"{RELEASE}/{names.TAXDUMP}" if CONFIG.release.taxdump else [],
        purge=[
            f"{RELEASE}/{names.purge_list(number)}"
            for number in range(len(CONFIG.release.purge_lists))
        ],
        files=[local_input(path) for path in CONFIG.curate.files],
    output:
        kept=expand(f"{CURATE}/{{level}}.parquet", level=LEVELS),
        removed=f"{CURATE}/removed.parquet",
        counts=f"{CURATE}/counts.json",
        lineage=f"{CURATE}/lineage.json",
        not_found=f"{CURATE}/purge_not_found.txt",
    log:
        f"{PATHS.logs('curate')}/curate.log",
    benchmark:
        f"{PATHS.benchmarks('curate')}/curate.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=8000,
        runtime="6h",
    params:
        config=stage_options(CONFIG, "curate"),
        records=lambda wildcards, input: parent(input.records[0], 2),
        directory=lambda wildcards, output: parent(output.counts),
        levels=LEVELS,
        taxdump=lambda wildcards, input: words("--taxdump", input.taxdump),
        purge=lambda wildcards, input: words("--purge-list", *input.purge),
        code=code_digest("curate"),
    shell:
        "unirefine curate --config {params.config:q} --records {params.records:q} --levels {params.levels:q}"
        " {params.taxdump:q} {params.purge:q} --output {params.directory:q} --threads {threads} 2>&1 | tee {log:q}"
