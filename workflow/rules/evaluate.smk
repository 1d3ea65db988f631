# Masked perplexity over the whole validation shard: ours, Hugging Face's, and four baselines where the residue is hidden.


rule evaluate:
    input:
        final=rules.train.output.final,
        shards=rules.shard.output.shards,
        manifest=rules.shard.output.manifest,
        clusters=rules.cluster.output.clusters,
        identity=rules.decontaminate.output.identity,
        nearest=PATHS.search_files("nearest", "parquet"),
        benchmarks=rules.decontaminate_prepare.output.benchmarks,
        before=[local_input(path) for path in PATHS.initial_weights()],
        sets=[local_input(path) for path in PATHS.validation_sets()],
    output:
        perplexity=f"{PATHS.directory('evaluate')}/perplexity.json",
        proteins=f"{PATHS.directory('evaluate')}/proteins.parquet",
    log:
        f"{PATHS.logs('evaluate')}/evaluate.log",
    benchmark:
        f"{PATHS.benchmarks('evaluate')}/evaluate.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="1d",
    params:
        program=model_command(CONFIG, "evaluate"),
        config=stage_options(CONFIG, "evaluate"),
        shards=lambda wildcards, input: parent(input.shards[0]),
        clusters=lambda wildcards, input: parent(input.clusters),
        decontaminated=lambda wildcards, input: parent(input.identity),
        directory=lambda wildcards, output: parent(output[0]),
        before=words("--before", CONFIG.train.init),
        sets=words("--also", *(f"{n}={p}" for n, p in CONFIG.train.validation.items())),
        code=code_digest("evaluate"),
    shell:
        "{params.program:q} --config {params.config:q} --shards {params.shards:q} --model {input.final:q}"
        " {params.before:q} {params.sets:q}"
        " --clusters {params.clusters:q} --decontaminated {params.decontaminated:q} --output {params.directory:q}"
        " 2>&1 | tee {log:q}"
