# A data card and a model card, in a directory of their own: the shards' and the model's are outputs of other rules.

CARDS = PATHS.directory("cards")


rule cards:
    input:
        shards=rules.shard.output.lineage,
        manifest=rules.shard.output.manifest,
        identity=rules.decontaminate.output.identity,
        final=rules.train.output.final,
        perplexity=rules.evaluate.output,
    output:
        data=f"{CARDS}/data/README.md",
        model=f"{CARDS}/model/README.md",
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
        results=lambda wildcards, output: parent(output.model, 3),
        directory=lambda wildcards, output: parent(output.model, 2),
        code=code_digest("cards"),
    shell:
        "unirefine cards --results {params.results:q} --output {params.directory:q} 2>&1 | tee {log:q}"
