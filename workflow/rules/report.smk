# One HTML report of the run.

from unirefine.report.captions import CAPTIONS


rule report:
    input:
        lineage=rules.shard.output.lineage,
        records=[f"{RECORDS}/{level}/counts.json" for level in LEVELS],
        curate=rules.curate.output,
        cluster=rules.cluster.output,
        split=rules.split.output.counts,
        removal=rules.decontaminate_remove.output,
        audit=rules.decontaminate.output,
        shard=[rules.shard.output.manifest, rules.shard.output.counts],
        final=rules.train.output.final,
        perplexity=rules.evaluate.output,
    output:
        figures=report(
            directory(f"{RESULTS}/report/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        page=report(
            f"{RESULTS}/report/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        f"{LOGS}/report/report.log",
    benchmark:
        f"{BENCHMARKS}/report/report.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        config=block("report"),
        results=lambda wildcards, output: up(output.page, 2),
        directory=lambda wildcards, output: up(output.page),
        captions=CAPTIONS,  # read by ../report/figure.rst
        code=code("report"),
    shell:
        "unirefine report --config {params.config:q} --results {params.results} --output {params.directory}"
        " 2>&1 | tee {log}"
