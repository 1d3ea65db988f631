# Verified downloads. A file that is a path on this machine is an input, so that editing it reruns what depends on it.

EXTENSION = "xml.gz" if CONFIG.release.format == "xml" else "fasta.gz"


def release_files():
    """Names of the files this config needs, in the release directory."""
    if OWN_FASTA:
        files = []
    else:
        files = [f"{level}.{EXTENSION}" for level in LEVELS]
        files += [f"{level}.release_note" for level in LEVELS]
        if CONFIG.cluster.membership == "idmapping":
            files.append("idmapping_selected.tab.gz")
    if CONFIG.release.taxdump:
        files.append("taxdump.tar.gz")
    return files + [f"purge-{i}.txt" for i in range(len(CONFIG.release.purge_lists))]


def archived_files():
    """What comes out of an archived release's one tarball."""
    if CONFIG.release.source != "archive":
        return []
    return [name for name in release_files() if name.startswith("uniref")]


def local_source(wildcards):
    """The path on this machine that a file comes from, where it does not come over the network."""
    if wildcards.file == "taxdump.tar.gz":
        source = CONFIG.release.taxdump
    elif wildcards.file.startswith("purge-"):
        source = CONFIG.release.purge_lists[int(wildcards.file[6:-4])]
    else:
        return []
    return [] if ":" in source else source


rule release_fetch:
    input:
        local_source,
    output:
        file=f"{RELEASE}/{{file}}",
        facts=f"{RELEASE}/{{file}}.json",
    log:
        f"{LOGS}/release/{{file}}.log",
    benchmark:
        f"{BENCHMARKS}/release/{{file}}.tsv"
    params:
        config=block("release"),
    threads: 1
    resources:
        mem_mb=1000,
        runtime="1d",
        downloads=1,
    wildcard_constraints:
        file=r"(?!release\.json|.*\.json$)[A-Za-z0-9_.-]+",
    shell:
        "unirefine release fetch --config {params.config:q} --file {wildcards.file}"
        " --output {output.file} 2>&1 | tee {log}"


if archived_files():

    rule release_archive:
        output:
            files=expand(f"{RELEASE}/{{file}}", file=archived_files()),
            facts=expand(f"{RELEASE}/{{file}}.json", file=archived_files()),
        log:
            f"{LOGS}/release/archive.log",
        benchmark:
            f"{BENCHMARKS}/release/archive.tsv"
        params:
            config=block("release"),
            directory=RELEASE,
        threads: 2
        resources:
            mem_mb=2000,
            runtime="3d",
            downloads=1,
        shell:
            "unirefine release archive --config {params.config:q} --output {params.directory} 2>&1 | tee {log}"

    ruleorder: release_archive > release_fetch


rule release:
    input:
        files=expand(f"{RELEASE}/{{file}}", file=release_files()),
        facts=expand(f"{RELEASE}/{{file}}.json", file=release_files()),
        fasta=CONFIG.release.fasta if OWN_FASTA else [],
    output:
        f"{RELEASE}/release.json",
    log:
        f"{LOGS}/release/release.log",
    benchmark:
        f"{BENCHMARKS}/release/release.tsv"
    params:
        config=block("release"),
        directory=RELEASE,
        names=release_files(),
    threads: 1
    resources:
        mem_mb=500,
        runtime="30m",
    shell:
        "unirefine release collect --config {params.config:q} --directory {params.directory}"
        " --files {params.names} --output {output} 2>&1 | tee {log}"
