# Masked perplexity over the whole validation shard: ours, Hugging Face's, and two baselines.


rule evaluate:
    input:
        final=rules.train.output.final,
        shards=rules.shard.output.shards,
        manifest=rules.shard.output.manifest,
        clusters=rules.cluster.output.clusters,
        identity=rules.decontaminate.output.identity,
        nearest=expand(
            f"{DECONTAMINATE}/nearest/part-{{part}}.parquet", part=DECONTAMINATE_PARTS
        ),
    output:
        f"{RESULTS}/evaluate/perplexity.json",
    log:
        f"{LOGS}/evaluate/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/evaluate.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="1d",
    params:
        program=program("evaluate"),
        config=block("evaluate"),
        shards=lambda wildcards, input: up(input.shards[0]),
        clusters=lambda wildcards, input: up(input.clusters),
        decontaminated=lambda wildcards, input: up(input.identity),
        directory=lambda wildcards, output: up(output[0]),
        code=code("evaluate"),
    shell:
        "{params.program} --config {params.config:q} --shards {params.shards} --model {input.final}"
        " --clusters {params.clusters} --decontaminated {params.decontaminated} --output {params.directory} 2>&1 | tee {log}"
