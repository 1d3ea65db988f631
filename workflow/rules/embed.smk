# Embeddings of a FASTA, or of the first validation sequences.


rule embed:
    input:
        final=rules.train.output.final,
        source=local_input(CONFIG.embed.fasta) or rules.shard.output.shards,
        manifest=[] if CONFIG.embed.fasta else rules.shard.output.manifest,
    output:
        PATHS.embeddings(),
    log:
        f"{PATHS.logs('embed')}/embed.log",
    benchmark:
        f"{PATHS.benchmarks('embed')}/embed.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="1d",
    params:
        program=model_command(CONFIG, "embed"),
        config=stage_options(CONFIG, "embed"),
        source=lambda wildcards, input: (
            words("--fasta", input.source)
            if CONFIG.embed.fasta
            else words("--shards", parent(input.source[0]))
        ),
        directory=lambda wildcards, output: parent(output[0]),
        code=code_digest("embed"),
    shell:
        "{params.program:q} --config {params.config:q} {params.source:q} --model {input.final:q}"
        " --output {params.directory:q} 2>&1 | tee {log:q}"
