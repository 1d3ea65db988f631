# Embeddings of a FASTA, or of the first validation sequences.


rule embed:
    input:
        final=rules.train.output.final,
        source=own(CONFIG.embed.fasta) or rules.shard.output.shards,
        manifest=[] if CONFIG.embed.fasta else rules.shard.output.manifest,
    output:
        sequences=f"{RESULTS}/embed/sequences.parquet",
        residues=(
            [f"{RESULTS}/embed/residues.parquet"] if CONFIG.embed.per_residue else []
        ),
    log:
        f"{LOGS}/embed/embed.log",
    benchmark:
        f"{BENCHMARKS}/embed/embed.tsv"
    threads: CONFIG.run.threads
    resources:
        mem_mb=16000,
        runtime="1d",
    params:
        program=program("embed"),
        config=block("embed"),
        source=lambda wildcards, input: (
            f"--fasta {input.source}"
            if CONFIG.embed.fasta
            else f"--shards {up(input.source[0])}"
        ),
        directory=lambda wildcards, output: up(output.sequences),
        code=code("embed"),
    shell:
        "{params.program} --config {params.config:q} {params.source} --model {input.final}"
        " --output {params.directory} 2>&1 | tee {log}"
