# Release files to Parquet records, one job a level.

RECORDS = PATHS.directory("records")

for records_level_name in LEVELS:

    rule:
        name:
            f"records_{records_level_name}"
        input:
            file=(
                local_input(CONFIG.release.fasta)
                if CUSTOM_FASTA
                else f"{RELEASE}/{names.level_download(records_level_name, CONFIG.release.format)}"
            ),
            note=(
                []
                if CUSTOM_FASTA
                else f"{RELEASE}/{names.release_note(records_level_name)}"
            ),
        output:
            records=PATHS.record_parts(records_level_name),
            members=PATHS.member_parts(records_level_name),
            counts=f"{RECORDS}/{records_level_name}/counts.json",
            removed=f"{RECORDS}/{records_level_name}/removed.parquet",
            lineage=f"{RECORDS}/{records_level_name}/lineage.json",
        log:
            f"{PATHS.logs('records')}/{records_level_name}.log",
        benchmark:
            f"{PATHS.benchmarks('records')}/{records_level_name}.tsv"
        threads: min(4, CONFIG.run.threads)
        resources:
            mem_mb=4000,
            runtime="12h",
        params:
            config=stage_options(CONFIG, "records"),
            level=records_level_name,
            directory=lambda wildcards, output: parent(output.counts, 2),
            note=lambda wildcards, input: words("--release-note", input.note),
            code=code_digest("records"),
        shell:
            "unirefine records --config {params.config:q} --level {params.level:q} --input {input.file:q}"
            " {params.note:q} --output {params.directory:q} --threads {threads} 2>&1 | tee {log:q}"


rule records:
    input:
        PATHS.records(),
    localrule: True
