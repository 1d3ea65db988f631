# Which UniRef90 sequences make up which UniRef50 cluster.

CLUSTER = PATHS.directory("cluster")
CLUSTERS_ITSELF = CUSTOM_FASTA and not CONFIG.release.clusters


rule cluster:
    input:
        records=PATHS.records(),
        removed=[f"{RECORDS}/{level}/removed.parquet" for level in LEVELS],
        lineage=ancient(PATHS.lineage("curate")),
        kept=rules.curate.output.kept,
        curated=rules.curate.output.counts,
        idmapping=(
            f"{RELEASE}/{names.IDMAPPING}" if CONFIG.release.needs_idmapping else []
        ),
        table=local_input(CONFIG.release.clusters),
    output:
        clusters=f"{CLUSTER}/clusters.parquet",
        membership=f"{CLUSTER}/membership.parquet",
        removed=f"{CLUSTER}/removed.parquet",
        violations=f"{CLUSTER}/violations.parquet",
        mmseqs_log=f"{CLUSTER}/mmseqs.log" if CLUSTERS_ITSELF else [],
        counts=f"{CLUSTER}/counts.json",
        lineage=f"{CLUSTER}/lineage.json",
    log:
        f"{PATHS.logs('cluster')}/cluster.log",
    benchmark:
        f"{PATHS.benchmarks('cluster')}/cluster.tsv"
    conda:
        "../../envs/mmseqs2.yaml"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="12h",
    params:
        config=stage_options(CONFIG, "cluster"),
        records=lambda wildcards, input: parent(input.records[0], 2),
        curated=lambda wildcards, input: parent(input.curated),
        directory=lambda wildcards, output: parent(output.counts),
        given=lambda wildcards, input: words("--idmapping", input.idmapping)
        + words("--clusters", input.table),
        mmseqs=MMSEQS if CLUSTERS_ITSELF else [],
        tool=MMSEQS_VERSION if CLUSTERS_ITSELF else "",
        code=code_digest("cluster"),
    shell:
        "unirefine cluster --config {params.config:q} --records {params.records:q} --curated {params.curated:q}"
        " {params.given:q} {params.mmseqs:q} --output {params.directory:q} --threads {threads} 2>&1 | tee {log:q}"


# Without MMseqs2's log, which has times in it: another one makes nothing again.
CLUSTERED = [path for path in rules.cluster.output if not path.endswith(".log")]
