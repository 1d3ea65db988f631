# Which clusters validate.


rule split:
    input:
        clusters=rules.cluster.output.clusters,
        ids=CONFIG.split.ids or [],
    output:
        split=f"{RESULTS}/split/split.parquet",
        counts=f"{RESULTS}/split/counts.json",
    log:
        f"{LOGS}/split/split.log",
    benchmark:
        f"{BENCHMARKS}/split/split.tsv"
    params:
        config=block("split"),
        clusters=f"{RESULTS}/cluster",
        directory=f"{RESULTS}/split",
        code=code("split"),
    threads: 1
    resources:
        mem_mb=8000,
        runtime="1h",
    shell:
        "unirefine split --config {params.config:q} --clusters {params.clusters}"
        " --output {params.directory} 2>&1 | tee {log}"
