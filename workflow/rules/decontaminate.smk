# Train clusters similar to validation are removed; what is left is searched again with a more sensitive setting.

DECONTAMINATE = place("decontaminate")
DECONTAMINATE_PARTS = [
    f"{i:03d}-of-{CONFIG.decontaminate.parts:03d}"
    for i in range(CONFIG.decontaminate.parts)
]


rule decontaminate_prepare:
    input:
        records=all_records(),
        clusters=rules.cluster.output,
        split=rules.split.output.split,
    output:
        target=temp(f"{DECONTAMINATE}/target.fasta"),
        queries=temp(
            expand(
                f"{DECONTAMINATE}/queries/part-{{part}}.fasta",
                part=DECONTAMINATE_PARTS,
            )
        ),
    log:
        f"{logs('decontaminate')}/prepare.log",
    benchmark:
        f"{benchmarks('decontaminate')}/prepare.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="4h",
    params:
        config=block("decontaminate", "level", "parts"),
        records=lambda wildcards, input: up(input.records[0], 2),
        clusters=lambda wildcards, input: up(input.clusters[0]),
        split=lambda wildcards, input: up(input.split),
        directory=lambda wildcards, output: up(output.target),
        code=code("decontaminate"),
    shell:
        "unirefine decontaminate prepare --config {params.config:q} --records {params.records}"
        " --clusters {params.clusters} --split {params.split} --output {params.directory} 2>&1 | tee {log}"


rule decontaminate_search:
    input:
        target=rules.decontaminate_prepare.output.target,
        queries=f"{DECONTAMINATE}/queries/part-{{part}}-of-{CONFIG.decontaminate.parts:03d}.fasta",
    output:
        hits=f"{DECONTAMINATE}/hits/part-{{part}}-of-{CONFIG.decontaminate.parts:03d}.parquet",
        audit=f"{DECONTAMINATE}/audit/part-{{part}}-of-{CONFIG.decontaminate.parts:03d}.parquet",
        nearest=f"{DECONTAMINATE}/nearest/part-{{part}}-of-{CONFIG.decontaminate.parts:03d}.parquet",
    log:
        f"{logs('decontaminate')}/search-{{part}}.log",
    benchmark:
        f"{benchmarks('decontaminate')}/search-{{part}}.tsv"
    conda:
        "../../envs/mmseqs2.yaml"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="12h",
    params:
        config=block("decontaminate", "parts", "search", "audit"),
        directory=lambda wildcards, input: up(input.target),
        mmseqs=MMSEQS,
        tool=MMSEQS_VERSION,
        code=code("decontaminate"),
    shell:
        "unirefine decontaminate search --config {params.config:q} --directory {params.directory}"
        " --part {wildcards.part} --threads {threads} {params.mmseqs} 2>&1 | tee {log}"


rule decontaminate_remove:
    input:
        found=expand(
            f"{DECONTAMINATE}/{{kind}}/part-{{part}}.parquet",
            kind=["hits", "audit", "nearest"],
            part=DECONTAMINATE_PARTS,
        ),
        records=all_records(),
        clusters=rules.cluster.output,
        split=rules.split.output.split,
        lineage=ancient(lineage_of("split")),
    output:
        split=f"{DECONTAMINATE}/split.parquet",
        removed=f"{DECONTAMINATE}/removed.parquet",
        counts=f"{DECONTAMINATE}/counts.json",
        lineage=f"{DECONTAMINATE}/lineage.json",
    log:
        f"{logs('decontaminate')}/remove.log",
    benchmark:
        f"{benchmarks('decontaminate')}/remove.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        config=block("decontaminate", "level", "parts", "audit_failures"),
        directory=lambda wildcards, output: up(output.counts),
        records=lambda wildcards, input: up(input.records[0], 2),
        clusters=lambda wildcards, input: up(input.clusters[0]),
        split=lambda wildcards, input: up(input.split),
        code=code("decontaminate"),
    shell:
        "unirefine decontaminate remove --config {params.config:q} --directory {params.directory}"
        " --records {params.records} --clusters {params.clusters} --split {params.split} 2>&1 | tee {log}"


rule decontaminate:
    input:
        removal=rules.decontaminate_remove.output,
        found=rules.decontaminate_remove.input.found,
        records=all_records(),
        clusters=rules.cluster.output,
        split=rules.split.output.split,
    output:
        audit=f"{DECONTAMINATE}/audit.parquet",
        identity=f"{DECONTAMINATE}/identity.json",
    log:
        f"{logs('decontaminate')}/audit.log",
    benchmark:
        f"{benchmarks('decontaminate')}/audit.tsv"
    conda:
        "../../envs/mmseqs2.yaml"
    threads: CONFIG.run.threads
    resources:
        mem_mb=32000,
        runtime="1d",
    params:
        config=block("decontaminate"),
        directory=lambda wildcards, output: up(output.audit),
        records=lambda wildcards, input: up(input.records[0], 2),
        clusters=lambda wildcards, input: up(input.clusters[0]),
        split=lambda wildcards, input: up(input.split),
        mmseqs=MMSEQS,
        tool=MMSEQS_VERSION,
        code=code("decontaminate"),
    shell:
        "unirefine decontaminate audit --config {params.config:q} --directory {params.directory}"
        " --records {params.records} --clusters {params.clusters} --split {params.split}"
        " --threads {threads} {params.mmseqs} 2>&1 | tee {log}"
