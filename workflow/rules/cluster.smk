# Which UniRef90 sequences make up which UniRef50 cluster.

CLUSTER = place("cluster")


rule cluster:
    input:
        records=all_records(),
        removed=[f"{RECORDS}/{level}/removed.parquet" for level in LEVELS],
        lineage=ancient(lineage_of("curate")),
        kept=rules.curate.output.kept,
        curated=rules.curate.output.counts,
        idmapping=(
            f"{RELEASE}/idmapping_selected.tab.gz"
            if CONFIG.release.needs_idmapping
            else []
        ),
    output:
        clusters=f"{CLUSTER}/clusters.parquet",
        membership=f"{CLUSTER}/membership.parquet",
        removed=f"{CLUSTER}/removed.parquet",
        violations=f"{CLUSTER}/violations.parquet",
        counts=f"{CLUSTER}/counts.json",
        lineage=f"{CLUSTER}/lineage.json",
    log:
        f"{logs('cluster')}/cluster.log",
    benchmark:
        f"{benchmarks('cluster')}/cluster.tsv"
    conda:
        "../../envs/mmseqs2.yaml"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="12h",
    params:
        config=block("cluster"),
        records=lambda wildcards, input: up(input.records[0], 2),
        curated=lambda wildcards, input: up(input.curated),
        directory=lambda wildcards, output: up(output.counts),
        idmapping=lambda wildcards, input: (
            f"--idmapping {input.idmapping}" if input.idmapping else ""
        ),
        mmseqs=MMSEQS if OWN_FASTA else "",
        tool=MMSEQS_VERSION if OWN_FASTA else "",
        code=code("cluster"),
    shell:
        "unirefine cluster --config {params.config:q} --records {params.records} --curated {params.curated}"
        " {params.idmapping} {params.mmseqs} --output {params.directory} --threads {threads} 2>&1 | tee {log}"
