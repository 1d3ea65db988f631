# Which UniRef90 sequences make up which UniRef50 cluster.


rule cluster:
    input:
        records=all_records(),
        kept=rules.curate.output.kept,
        curated=rules.curate.output.counts,
        idmapping=(
            f"{RELEASE}/idmapping_selected.tab.gz"
            if CONFIG.cluster.membership == "idmapping"
            else []
        ),
    output:
        clusters=f"{RESULTS}/cluster/clusters.parquet",
        membership=f"{RESULTS}/cluster/membership.parquet",
        removed=f"{RESULTS}/cluster/removed.parquet",
        counts=f"{RESULTS}/cluster/counts.json",
    log:
        f"{LOGS}/cluster/cluster.log",
    benchmark:
        f"{BENCHMARKS}/cluster/cluster.tsv"
    params:
        config=block("cluster"),
        records=f"{RESULTS}/records",
        curated=f"{RESULTS}/curate",
        directory=f"{RESULTS}/cluster",
        idmapping=(
            f"--idmapping {RELEASE}/idmapping_selected.tab.gz"
            if CONFIG.cluster.membership == "idmapping"
            else ""
        ),
        mmseqs=MMSEQS,
        code=code("cluster"),
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="12h",
    conda:
        "../../envs/mmseqs2.yaml"
    shell:
        "unirefine cluster --config {params.config:q} --records {params.records} --curated {params.curated}"
        " {params.idmapping} {params.mmseqs} --output {params.directory} --threads {threads} 2>&1 | tee {log}"
