# Which clusters validate.

SPLIT = PATHS.directory("split")


rule split:
    input:
        clusters=rules.cluster.output.clusters,
        lineage=ancient(PATHS.lineage("cluster")),
        ids=local_input(CONFIG.split.ids),
        records=PATHS.records() if CONFIG.split.method in ("ids", "given") else [],
    output:
        split=f"{SPLIT}/split.parquet",
        missing=f"{SPLIT}/missing_ids.txt" if CONFIG.split.method == "ids" else [],
        counts=f"{SPLIT}/counts.json",
        lineage=f"{SPLIT}/lineage.json",
    log:
        f"{PATHS.logs('split')}/split.log",
    benchmark:
        f"{PATHS.benchmarks('split')}/split.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        config=stage_options(CONFIG, "split"),
        clusters=lambda wildcards, input: parent(input.clusters),
        records=lambda wildcards, input: (
            words("--records", parent(input.records[0], 2)) if input.records else []
        ),
        directory=lambda wildcards, output: parent(output.counts),
        code=code_digest("split"),
    shell:
        "unirefine split --config {params.config:q} --clusters {params.clusters:q}"
        " {params.records:q} --output {params.directory:q} 2>&1 | tee {log:q}"
