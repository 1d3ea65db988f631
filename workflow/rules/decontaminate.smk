# Train clusters similar to validation are removed. The remaining ones are searched again, more sensitively.

DECONTAMINATE = PATHS.directory("decontaminate")


rule decontaminate_prepare:
    input:
        records=PATHS.records(),
        clusters=CLUSTERED,
        split=rules.split.output.split,
        against=[local_input(one.file) for one in CONFIG.decontaminate.against],
    output:
        target=temp(f"{DECONTAMINATE}/target.fasta"),
        queries=temp(PATHS.search_files("queries", "fasta")),
        benchmarks=f"{DECONTAMINATE}/benchmarks.parquet",
    log:
        f"{PATHS.logs('decontaminate')}/prepare.log",
    benchmark:
        f"{PATHS.benchmarks('decontaminate')}/prepare.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="4h",
    params:
        config=stage_options(CONFIG, "decontaminate", "level", "parts", "against"),
        records=lambda wildcards, input: parent(input.records[0], 2),
        clusters=lambda wildcards, input: parent(input.clusters[0]),
        split=lambda wildcards, input: parent(input.split),
        directory=lambda wildcards, output: parent(output.target),
        code=code_digest("decontaminate"),
    shell:
        "unirefine decontaminate prepare --config {params.config:q} --records {params.records:q}"
        " --clusters {params.clusters:q} --split {params.split:q} --output {params.directory:q} 2>&1 | tee {log:q}"


rule decontaminate_search:
    input:
        target=rules.decontaminate_prepare.output.target,
        queries=PATHS.search_pattern("queries", "fasta"),
        benchmarks=rules.decontaminate_prepare.output.benchmarks,
    output:
        hits=PATHS.search_pattern("hits", "parquet"),
        audit=PATHS.search_pattern("audit", "parquet"),
        nearest=PATHS.search_pattern("nearest", "parquet"),
    log:
        f"{PATHS.logs('decontaminate')}/search-{{part}}.log",
    benchmark:
        f"{PATHS.benchmarks('decontaminate')}/search-{{part}}.tsv"
    conda:
        "../../envs/mmseqs2.yaml"
    threads: CONFIG.run.threads
    resources:
        mem_mb=32000,
        runtime="12h",
    params:
        config=stage_options(
            CONFIG,
            "decontaminate",
            "parts",
            "against",
            "search",
            "audit",
            "audit_share",
        ),
        directory=lambda wildcards, input: parent(input.target),
        mmseqs=MMSEQS,
        tool=MMSEQS_VERSION,
        code=code_digest("decontaminate"),
    shell:
        "unirefine decontaminate search --config {params.config:q} --directory {params.directory:q}"
        " --part {wildcards.part:q} --threads {threads} --memory-mb {resources.mem_mb:q} {params.mmseqs:q} 2>&1 | tee {log:q}"


rule decontaminate_remove:
    input:
        found=[
            file
            for kind in ("hits", "audit", "nearest")
            for file in PATHS.search_files(kind, "parquet")
        ],
        benchmarks=rules.decontaminate_prepare.output.benchmarks,
        against=rules.decontaminate_prepare.input.against,
        records=PATHS.records(),
        clusters=CLUSTERED,
        split=rules.split.output.split,
        lineage=ancient(PATHS.lineage("split")),
    output:
        split=f"{DECONTAMINATE}/split.parquet",
        removed=f"{DECONTAMINATE}/removed.parquet",
        counts=f"{DECONTAMINATE}/counts.json",
        lineage=f"{DECONTAMINATE}/lineage.json",
    log:
        f"{PATHS.logs('decontaminate')}/remove.log",
    benchmark:
        f"{PATHS.benchmarks('decontaminate')}/remove.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        config=stage_options(
            CONFIG, "decontaminate", "level", "parts", "against", "audit_failures"
        ),
        directory=lambda wildcards, output: parent(output.counts),
        records=lambda wildcards, input: parent(input.records[0], 2),
        clusters=lambda wildcards, input: parent(input.clusters[0]),
        split=lambda wildcards, input: parent(input.split),
        code=code_digest("decontaminate"),
    shell:
        "unirefine decontaminate remove --config {params.config:q} --directory {params.directory:q}"
        " --records {params.records:q} --clusters {params.clusters:q} --split {params.split:q} 2>&1 | tee {log:q}"


rule decontaminate:
    input:
        removal=rules.decontaminate_remove.output,
        found=rules.decontaminate_remove.input.found,
        benchmarks=rules.decontaminate_prepare.output.benchmarks,
        records=PATHS.records(),
        clusters=CLUSTERED,
        split=rules.split.output.split,
    output:
        audit=f"{DECONTAMINATE}/audit.parquet",
        identity=f"{DECONTAMINATE}/identity.json",
    log:
        f"{PATHS.logs('decontaminate')}/audit.log",
    benchmark:
        f"{PATHS.benchmarks('decontaminate')}/audit.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=32000,
        runtime="1d",
    params:
        config=stage_options(CONFIG, "decontaminate"),
        directory=lambda wildcards, output: parent(output.audit),
        records=lambda wildcards, input: parent(input.records[0], 2),
        clusters=lambda wildcards, input: parent(input.clusters[0]),
        split=lambda wildcards, input: parent(input.split),
        code=code_digest("decontaminate"),
    shell:
        "unirefine decontaminate audit --config {params.config:q} --directory {params.directory:q}"
        " --records {params.records:q} --clusters {params.clusters:q} --split {params.split:q}"
        " --threads {threads} 2>&1 | tee {log:q}"
