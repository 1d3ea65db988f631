# Which clusters validate.


rule split:
    input:
        clusters=rules.cluster.output.clusters,
        ids=CONFIG.split.ids or [],
    output:
        split=f"{RESULTS}/split/split.parquet",
        counts=f"{RESULTS}/split/counts.json",
        lineage=f"{RESULTS}/split/lineage.json",
    log:
        f"{LOGS}/split/split.log",
    benchmark:
        f"{BENCHMARKS}/split/split.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        config=block("split"),
        clusters=lambda wildcards, input: up(input.clusters),
        directory=lambda wildcards, output: up(output.counts),
        code=code("split"),
    shell:
        "unirefine split --config {params.config:q} --clusters {params.clusters}"
        " --output {params.directory} 2>&1 | tee {log}"
