# Which clusters validate.

SPLIT = place("split")


rule split:
    input:
        clusters=rules.cluster.output.clusters,
        lineage=ancient(lineage_of("cluster")),
        ids=own(CONFIG.split.ids),
    output:
        split=f"{SPLIT}/split.parquet",
        counts=f"{SPLIT}/counts.json",
        lineage=f"{SPLIT}/lineage.json",
    log:
        f"{logs('split')}/split.log",
    benchmark:
        f"{benchmarks('split')}/split.tsv"
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
