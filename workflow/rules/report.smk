# One HTML report of the run.

from unirefine.report.captions import captions

REPORT = PATHS.directory("report")


rule report:
    input:
        lineage=rules.shard.output.lineage,
        records=PATHS.level_counts(),
        curate=rules.curate.output,
        cluster=CLUSTERED,
        split=rules.split.output.counts,
        removal=rules.decontaminate_remove.output,
        audit=rules.decontaminate.output,
        shard=[rules.shard.output.manifest, rules.shard.output.counts],
        final=rules.train.output.final,
        perplexity=rules.evaluate.output,
    output:
        figures=report(
            directory(f"{REPORT}/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        page=report(
            f"{REPORT}/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        f"{PATHS.logs('report')}/report.log",
    benchmark:
        f"{PATHS.benchmarks('report')}/report.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        config=stage_options(CONFIG, "report"),
        results=lambda wildcards, output: parent(output.page, 2),
        directory=lambda wildcards, output: parent(output.page),
        captions=captions({"source": CONFIG.release.source}),  # read by ../report/figure.rst
        code=code_digest("report"),
    shell:
        "unirefine report --config {params.config:q} --results {params.results:q} --output {params.directory:q}"
        " 2>&1 | tee {log:q}"
