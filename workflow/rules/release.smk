# Verified downloads. A file that is a path on this machine is an input, so that an edit reruns what depends on it.


rule release_fetch:
    input:
        local_source,
    output:
        file=f"{RELEASE}/{{file}}",
        facts=f"{RELEASE}/{{file}}.json",
    log:
        f"{logs('release')}/{{file}}.log",
    benchmark:
        f"{benchmarks('release')}/{{file}}.tsv"
    wildcard_constraints:
        file="|".join(re.escape(name) for name in directories.release_files(CONFIG))
        or "none",
    threads: 1
    resources:
        mem_mb=1000,
        runtime="1d",
        downloads=1,
    params:
        what=what_decides,
        config=untracked("release"),
        planned=planned_downloads,
    shell:
        "unirefine release fetch --config {params.config:q} --file {wildcards.file}"
        " --planned {params.planned} --output {output.file} 2>&1 | tee {log}"


if archived_files():

    rule release_archive:
        output:
            files=expand(f"{RELEASE}/{{file}}", file=archived_files()),
            facts=expand(f"{RELEASE}/{{file}}.json", file=archived_files()),
        log:
            f"{logs('release')}/archive.log",
        benchmark:
            f"{benchmarks('release')}/archive.tsv"
        threads: 1
        resources:
            mem_mb=1000,
            runtime="3d",
            downloads=1,
        params:
            what=block("release", "source", "name"),
            config=untracked("release"),
            directory=lambda wildcards, output: up(output.files[0]),
        shell:
            "unirefine release archive --config {params.config:q} --output {params.directory} 2>&1 | tee {log}"

    ruleorder: release_archive > release_fetch


rule release:
    input:
        files=expand(f"{RELEASE}/{{file}}", file=directories.release_files(CONFIG)),
        facts=expand(f"{RELEASE}/{{file}}.json", file=directories.release_files(CONFIG)),
        fasta=own(CONFIG.release.fasta) if OWN_FASTA else [],
    output:
        f"{RELEASE}/release.json",
    log:
        f"{logs('release')}/release.log",
    benchmark:
        f"{benchmarks('release')}/release.tsv"
    localrule: True
    threads: 1
    resources:
        mem_mb=500,
        runtime="30m",
    params:
        what=block("release", "source", "name", "fasta"),
        config=untracked("release"),
        directory=lambda wildcards, output: up(output[0]),
        names=directories.release_files(CONFIG),
    shell:
        "unirefine release collect --config {params.config:q} --directory {params.directory}"
        " --files {params.names} --output {output} 2>&1 | tee {log}"
