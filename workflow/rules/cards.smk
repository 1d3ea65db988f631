# A data card beside the shards and a model card beside the model. A copy of the latter goes into final/, undeclared, because
# that directory is an output of train. Shards of another run keep that run's card.


rule cards:
    input:
        shards=rules.shard.output.lineage,
        manifest=rules.shard.output.manifest,
        identity=rules.decontaminate.output.identity,
        final=rules.train.output.final,
        perplexity=rules.evaluate.output,
    output:
        data=[] if "shard" in SHARED else f"{SHARDS}/README.md",
        model=f"{TRAIN}/model-card.md",
    log:
        f"{PATHS.logs('cards')}/cards.log",
    benchmark:
        f"{PATHS.benchmarks('cards')}/cards.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        results=lambda wildcards, output: parent(output.model, 2),
        code=code_digest("cards"),
    shell:
        "unirefine cards --results {params.results:q} 2>&1 | tee {log:q}"
