# Verified downloads. A source that is a file on this machine is an input, so that an edit of it reruns what depends on it.

RELEASE = PATHS.directory("release")
DOWNLOADS = release_files(CONFIG)
ARCHIVED = archived_files(CONFIG)
# options that name the files of a source besides UniProt's
RELEASE_FILES_OF = {
    **dict.fromkeys(("current", "archive"), ("fasta",)),
    "fasta": ("fasta", "validation_fasta", "test_fasta", "sides", "clusters"),
    **dict.fromkeys(("parquet", "bionemo"), ("dataset", "revision")),
}


rule release_fetch:
    input:
        lambda wildcards: local_input(local_download(CONFIG, wildcards.file)),
    output:
        file=f"{RELEASE}/{{file}}",
        facts=f"{RELEASE}/{{file}}.json",
    log:
        f"{PATHS.logs('release')}/{{file}}.log",
    benchmark:
        f"{PATHS.benchmarks('release')}/{{file}}.tsv"
    wildcard_constraints:
        file="|".join(map(re.escape, DOWNLOADS)) or "none",
    threads: 1
    resources:
        mem_mb=1000,
        runtime="1d",
        downloads=1,
    params:
        what=lambda wildcards: download_options(CONFIG, wildcards.file),
        config=untracked(stage_options(CONFIG, "release")),
        planned=untracked(single_downloads(CONFIG)),
    shell:
        "unirefine release fetch --config {params.config:q} --file {wildcards.file:q}"
        " --planned {params.planned:q} --output {output.file:q} 2>&1 | tee {log:q}"


if ARCHIVED:

    rule release_archive:
        output:
            files=expand(f"{RELEASE}/{{file}}", file=ARCHIVED),
            facts=expand(f"{RELEASE}/{{file}}.json", file=ARCHIVED),
        log:
            f"{PATHS.logs('release')}/archive.log",
        benchmark:
            f"{PATHS.benchmarks('release')}/archive.tsv"
        threads: 1
        resources:
            mem_mb=1000,
            runtime="3d",
            downloads=1,
        params:
            what=stage_options(CONFIG, "release", "source", "name"),
            config=untracked(stage_options(CONFIG, "release")),
            directory=lambda wildcards, output: parent(output.files[0]),
        shell:
            "unirefine release archive --config {params.config:q} --output {params.directory:q} 2>&1 | tee {log:q}"

    ruleorder: release_archive > release_fetch


if CONFIG.release.on_hub:

    rule release_dataset:
        output:
            # until it is whole it is in dataset.part, undeclared, so that a killed download goes on
            directory(f"{RELEASE}/{names.DATA_SET}"),
        log:
            f"{PATHS.logs('release')}/dataset.log",
        benchmark:
            f"{PATHS.benchmarks('release')}/dataset.tsv"
        threads: 1
        resources:
            mem_mb=1000,
            runtime="1d",
            downloads=1,
        params:
            what=stage_options(
                CONFIG, "release", "source", "dataset", "revision", "only_held_out"
            ),
            config=untracked(stage_options(CONFIG, "release")),
        shell:
            "unirefine release dataset --config {params.config:q} --output {output:q} 2>&1 | tee {log:q}"


rule release:
    input:
        files=expand(f"{RELEASE}/{{file}}", file=DOWNLOADS),
        facts=expand(f"{RELEASE}/{{file}}.json", file=DOWNLOADS),
        own=[
            local_input(path)
            for path in (*CONFIG.release.own_files, *PATHS.data_set())
        ],
        dataset=f"{RELEASE}/{names.DATA_SET}" if CONFIG.release.on_hub else [],
    output:
        f"{RELEASE}/release.json",
    log:
        f"{PATHS.logs('release')}/release.log",
    benchmark:
        f"{PATHS.benchmarks('release')}/release.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=500,
        runtime="30m",
    params:
        what=stage_options(
            CONFIG,
            "release",
            "source",
            "name",
            *RELEASE_FILES_OF[CONFIG.release.source],
        ),
        config=untracked(stage_options(CONFIG, "release")),
        directory=lambda wildcards, output: parent(output[0]),
        names=DOWNLOADS,
        # a directory of the user's may be shared with other runs
        others=untracked([] if CONFIG.release.directory else ["--delete-others"]),
    shell:
        "unirefine release collect --config {params.config:q} --directory {params.directory:q}"
        " --files {params.names:q} {params.others:q} --output {output:q} 2>&1 | tee {log:q}"
