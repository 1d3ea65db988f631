# Published checkpoints on the published validation set: `snakemake model_card --configfile config/model-card.yaml`.

if CONFIG.evaluate.models and CONFIG.release.source == "parquet":
    MODEL_CARD = f"{PATHS.results}/model-card"

    rule model_card_shards:
        input:
            records_input("uniref90"),
        output:
            manifest=f"{MODEL_CARD}/shards/manifest.json",
            shards=expand(
                f"{MODEL_CARD}/shards/{{file}}", file=names.shard_files("validation")
            ),
        log:
            f"{PATHS.logs('model-card')}/shards.log",
        threads: 1
        resources:
            mem_mb=4000,
            runtime="1h",
        params:
            dataset=lambda wildcards, input: (
                CONFIG.release.dataset if PATHS.data_set() else input[0]
            ),
            directory=lambda wildcards, output: parent(output.manifest),
            code=code_digest("shard"),
        shell:
            "unirefine shard held-out --dataset {params.dataset:q} --output {params.directory:q} 2>&1 | tee {log:q}"

    rule model_card:
        input:
            manifest=rules.model_card_shards.output.manifest,
            shards=rules.model_card_shards.output.shards,
        output:
            f"{MODEL_CARD}/perplexity.json",
        log:
            f"{PATHS.logs('model-card')}/evaluate.log",
        threads: CONFIG.run.threads
        resources:
            mem_mb=32000,
            runtime="1d",
        params:
            program=model_command(CONFIG, "evaluate"),
            config=stage_options(CONFIG, "evaluate"),
            models=list(CONFIG.evaluate.models),
            shards=lambda wildcards, input: parent(input.manifest),
            directory=lambda wildcards, output: parent(output[0]),
            code=code_digest("evaluate"),
        shell:
            "{params.program:q} --config {params.config:q} --shards {params.shards:q} --model {params.models:q}"
            " --output {params.directory:q} 2>&1 | tee {log:q}"
