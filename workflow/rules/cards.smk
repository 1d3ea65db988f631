# A data card beside the shards and a model card beside the model. The copy inside final/, which is train's, is undeclared.
# Shards of another run have that run's card.


rule cards:
    input:
        shards=rules.shard.output.lineage,
        manifest=rules.shard.output.manifest,
        identity=rules.decontaminate.output.identity,
        final=rules.train.output.final,
        perplexity=rules.evaluate.output,
    output:
        data=[] if "shard" in PLACES else f"{SHARDS}/README.md",
        model=f"{TRAIN}/model-card.md",
    log:
        f"{LOGS}/cards/cards.log",
    benchmark:
        f"{BENCHMARKS}/cards/cards.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        results=lambda wildcards, output: up(output.model, 2),
        code=code("cards"),
    shell:
        "unirefine cards --results {params.results} 2>&1 | tee {log}"
