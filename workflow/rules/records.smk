# Release files to Parquet records, one job a level.


for records_level_name in LEVELS:

    rule:
        name:
            f"records_{records_level_name}"
        input:
            file=(
                own(CONFIG.release.fasta)
                if OWN_FASTA
                else f"{RELEASE}/{records_level_name}.{EXTENSION}"
            ),
            note=[] if OWN_FASTA else f"{RELEASE}/{records_level_name}.release_note",
        output:
            records=record_parts(records_level_name),
            members=member_parts(records_level_name),
            counts=f"{RECORDS}/{records_level_name}/counts.json",
            removed=f"{RECORDS}/{records_level_name}/removed.parquet",
            lineage=f"{RECORDS}/{records_level_name}/lineage.json",
        log:
            f"{logs('records')}/{records_level_name}.log",
        benchmark:
            f"{benchmarks('records')}/{records_level_name}.tsv"
        threads: min(4, CONFIG.run.threads)
        resources:
            mem_mb=4000,
            runtime="12h",
        params:
            config=block("records"),
            level=records_level_name,
            directory=lambda wildcards, output: up(output.counts, 2),
            note=lambda wildcards, input: (
                f"--release-note {input.note}" if input.note else ""
            ),
            code=code("records"),
        shell:
            "unirefine records --config {params.config:q} --level {params.level} --input {input.file} {params.note}"
            " --output {params.directory} --threads {threads} 2>&1 | tee {log}"


rule records:
    input:
        all_records(),
    localrule: True
