# The validated config, where everything lies, and what a rule passes on to its command.

import contextlib
import re
import sys
from pathlib import Path

from unirefine.files import stages

from unirefine.files import stages
from unirefine.workflow import directories
from unirefine.config import parse_config
from unirefine.errors import UserError
from unirefine.workflow.preflight import (
    guard_others,
    hold,
    require_bucket,
    require_writable,
    retraining,
    warning_of_future,
)
from unirefine.files.code import stage_digest
from unirefine.tools import find_mmseqs, tool_version

BUCKET = workflow.storage_settings.default_storage_prefix
STARTS = workflow.is_main_process and not workflow.output_settings.dryrun
try:
    CONFIG = parse_config(config, where=str((workflow.configfiles or ["config"])[-1]))
    if BUCKET and workflow.is_main_process:
        require_bucket(workflow.storage_registry.default_storage_provider, BUCKET)
    RUN = CONFIG.run.name
    # A job takes what its workflow has noted, because the run that it shares with may have gone on since.
    PLACES = (
        directories.find(CONFIG)
        if workflow.is_main_process
        else stages.shared_stages(Path("results") / RUN)
    )
    if STARTS:
        require_writable("results", f"results/{RUN}")
except UserError as error:
    # One line instead of Snakemake's traceback.
    print(f"unirefine: error: {error.line()}", file=sys.stderr)
    raise SystemExit(1)

RESULTS = f"results/{RUN}"
if STARTS and (line := warning_of_future(RESULTS)):
    print(f"unirefine: warning: {line}", file=sys.stderr)
LOGS = f"logs/{RUN}"
BENCHMARKS = f"benchmarks/{RUN}"
OWN_FASTA = CONFIG.release.source == "fasta"
LEVELS = ["uniref90"] if OWN_FASTA else ["uniref50", "uniref90"]
EXTENSION = f"{CONFIG.release.format}.gz"
MMSEQS_VERSION = "MMseqs2:not found here"  # of a conda environment or container: tracked through that
with contextlib.suppress(UserError):
    MMSEQS_VERSION = f"MMseqs2:{tool_version(find_mmseqs(CONFIG.tools.mmseqs))}"
MMSEQS = f"--mmseqs {CONFIG.tools.mmseqs}" if CONFIG.tools.mmseqs else ""

APPTAINER = "apptainer" in map(str, workflow.deployment_settings.deployment_method)


wildcard_constraints:
    level="uniref50|uniref90",
    part=r"\d{3}",


def place(stage):
    """Where a stage writes: this run's directory, or that of the run it is shared with."""
    return str(PLACES.get(stage, f"{RESULTS}/{stage}"))


def run_of(stage):
    """The run whose logs and benchmarks a stage's are."""
    other = PLACES.get(stage)
    return (
        other.parent.name if other and other.parent.parent == Path("results") else RUN
    )


def logs(stage):
    """Where a stage logs."""
    return f"logs/{run_of(stage)}/{stage}"


def benchmarks(stage):
    """Where the times of a stage are kept."""
    return f"benchmarks/{run_of(stage)}/{stage}"


def block(name, *only):
    """A stage's options as a JSON string: Snakemake tracks strings, so a changed option reruns the stage.

    Where a stage has several rules, each names the options that it reads, and another's change does not rerun it.
    """
    return getattr(CONFIG, name).model_dump_json(include=set(only) or None)


def untracked(name):
    """A stage's options as a JSON string that Snakemake does not track: what decides on the result is a param of its own.

    Snakemake leaves out params that are made of inputs or outputs.
    """
    return lambda wildcards, output: block(name)


def what_decides(wildcards):
    """The options that decide what one download is: another mirror or one more purge list fetches nothing again."""
    if wildcards.file == "taxdump.tar.gz":
        return str(CONFIG.release.taxdump)
    if wildcards.file.startswith("purge-"):
        return CONFIG.release.purge_lists[int(wildcards.file[6:-4])]
    return block("release", "source", "name")


def code(stage):
    """Digest of a stage's code: an edit reruns the stage. Not given to training, whose result is never discarded so."""
    return f"code:{stage_digest(stage)}"


def program(stage):
    """The command of a stage that runs a model: under torchrun where one model takes several processes."""
    processes = getattr(CONFIG, stage).parallel.processes
    if processes == 1:
        return f"unirefine {stage}"
    launcher = (
        f"torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node {processes}"
    )
    return f"{launcher} -m unirefine.cli.main {stage}"


def within_container(wildcards, output, resources):
    """What stands before `unirefine train`: with `--sdm apptainer` the start of a container on every node, else nothing.

    An image has no Slurm, so `srun` starts the containers, not a container `srun`. Not tracked (it is made of outputs).
    """
    if not APPTAINER:
        return ""
    nodes = resources.nodes
    step = f"srun --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --cpu-bind=none --wait=60"
    arguments = workflow.deployment_settings.apptainer_args
    return f"${{SLURM_JOB_ID:+{step}}} apptainer exec --home $PWD {arguments} {IMAGE}"


def up(path, levels=1):
    """The directory that many levels above a file: what commands take, where rules declare the files in it."""
    return str(Path(path).parents[levels - 1])


RELEASE = place("release")
RECORDS = place("records")


def parts_of(level, kind):
    """The Parquet parts of one level, kind `records` or `members`."""
    count = CONFIG.records.parts
    return [
        f"{RECORDS}/{level}/{kind}-{i:03d}-of-{count:03d}.parquet" for i in range(count)
    ]


def record_parts(level):
    """The Parquet parts of one level."""
    return parts_of(level, "records")


def member_parts(level):
    """The membership parts of one level, which only XML has."""
    return (
        []
        if OWN_FASTA or CONFIG.release.format == "fasta"
        else parts_of(level, "members")
    )


def all_records():
    """Everything that the records stage writes."""
    parts = [
        part for level in LEVELS for part in record_parts(level) + member_parts(level)
    ]
    return parts + [f"{RECORDS}/{level}/counts.json" for level in LEVELS]


def initial_weights():
    """The files of the model that training starts from: the date of their directory does not tell of an edit."""
    if CONFIG.train.init is None:
        return []
    directory = Path(CONFIG.train.init)
    found = [*directory.glob("*.safetensors"), *directory.glob("config.json")]
    return [own(path) for path in sorted(map(str, found)) or [CONFIG.train.init]]


def shard_prefixes():
    """`train-000-of-064`, ..., `validation`, and `test` where one was asked for."""
    count = CONFIG.shard.parts
    train = [f"train-{i:03d}-of-{count:03d}" for i in range(count)]
    return train + ["validation"] + (["test"] if CONFIG.split.test_fraction else [])


def archived_files():
    """What comes out of an archived release's one tarball."""
    if CONFIG.release.source != "archive":
        return []
    return [
        name for name in directories.release_files(CONFIG) if name.startswith("uniref")
    ]


def planned_downloads(wildcards, output):
    """All single downloads, so that each looks for room for all. Not tracked, as `untracked` says."""
    return [
        name
        for name in directories.release_files(CONFIG)
        if name not in archived_files()
    ]


def own(path):
    """A file of the user's as an input: on this machine also where results are in a bucket. Nothing for no file."""
    return local(path) if path else []


def lineage_of(stage):
    """Where a stage's results come from: read beside the results, but its date (`ancient`) makes nothing again."""
    return f"{place(stage)}/lineage.json"


def local_source(wildcards):
    """The path on this machine that a file comes from, where it does not come over the network."""
    if wildcards.file == "taxdump.tar.gz":
        source = CONFIG.release.taxdump
    elif wildcards.file.startswith("purge-"):
        source = CONFIG.release.purge_lists[int(wildcards.file[6:-4])]
    else:
        return []
    return [] if ":" in source else own(source)
