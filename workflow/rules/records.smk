# Release files to Parquet records, one job a level.

RECORDS = PATHS.directory("records")


for records_level_name in LEVELS:

    rule:
        name:
            f"records_{records_level_name}"
        input:
            file=records_input(records_level_name),
            note=(
                f"{RELEASE}/{names.release_note(records_level_name)}"
                if CONFIG.release.is_uniprot
                else []
            ),
            validation=local_input(CONFIG.release.validation_fasta),
            test=local_input(CONFIG.release.test_fasta),
            sides=local_input(CONFIG.release.sides),
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
            # of a data set, 45 bytes a row choose the representatives
            mem_mb=12000 if CONFIG.release.is_data_set else 4000,
            runtime="12h",
        params:
            config=stage_options(CONFIG, "records"),
            level=records_level_name,
            directory=lambda wildcards, output: parent(output.counts, 2),
            source=lambda wildcards, input: (
                CONFIG.release.dataset if PATHS.data_set() else input.file
            ),
            given=lambda wildcards, input: words("--release-note", input.note)
            + words("--validation", input.validation)
            + words("--test", input.test)
            + words("--sides", input.sides),
            code=code_digest("records"),
        shell:
            "unirefine records --config {params.config:q} --level {params.level:q} --input {params.source:q}"
            " {params.given:q} --output {params.directory:q} --threads {threads} 2>&1 | tee {log:q}"


rule records:
    input:
        PATHS.records(),
    localrule: True
