# The validated config, the paths of the run, and checks before a start.

import importlib.util
import os
import re
import sys
from pathlib import Path

# A checkout can be looked at (--lint, -n) where the package is not installed. Jobs call its command.
if importlib.util.find_spec("unirefine") is None:
    sys.path.insert(0, str(Path(str(workflow.current_basedir)).parents[1] / "src"))
if importlib.util.find_spec("unirefine") is None:
    print(
        "unirefine: error: the Python package is not installed; pip install 'unirefine[train]'",
        file=sys.stderr,
    )
    raise SystemExit(1)

from unirefine.config import merge_configs, parse_config
from unirefine.errors import UserError
from unirefine.files import made_by, names, stages
from unirefine.terminal import LOG_TIMES, printable
from unirefine.workflow.directories import shared_directories
from unirefine.workflow.options import (
    archived_files,
    code_digest,
    container_prefix,
    download_options,
    local_download,
    mmseqs_version,
    model_command,
    parent,
    refuse_braces,
    release_files,
    single_downloads,
    stage_options,
    untracked,
    words,
)
from unirefine.workflow.paths import Paths
from unirefine.workflow.preflight import (
    mark_running,
    refuse_rerun_of_base,
    require_bucket,
    require_files,
    require_writable,
    retraining,
    training_note,
    warning_of_future,
)
from unirefine.workflow.snakemake import (
    Plan,
    call_of,
    follow_storage,
    keep_nodes_in_slurm,
    storage_of,
)

CALL = call_of(workflow)
try:
    # not Snakemake's own `config`, which has YAML 1.1's idea of what `off` and `2024_03` are; another workflow has no other
    CONFIG = (
        merge_configs(CALL.config_files, CALL.given)
        if CALL.module_config is None
        else parse_config(CALL.module_config, where="config of the module")
    )
    refuse_braces(CONFIG, workflow.basedir)
    if CALL.bucket and CALL.is_main:
        require_bucket(storage_of(workflow), CALL.bucket)
        follow_storage(workflow)
    # A job takes the directories that its workflow has written down: the other run may have gone on since.
    SHARED = (
        shared_directories(CONFIG)
        if CALL.is_main
        else stages.shared_stages(stages.RESULTS / CONFIG.run.name)
    )
    PATHS = Paths(CONFIG, SHARED)
    if CALL.is_main:
        downloads = Path(PATHS.directory("release"))
        require_files(
            CONFIG,
            find_tools=not CALL.deployed,
            downloads=downloads if CALL.starts and not CALL.bucket else None,
        )
    if CALL.starts:
        require_writable("results", PATHS.results)
except UserError as error:
    # One line instead of Snakemake's traceback.
    print(f"unirefine: error: {error.line()}", file=sys.stderr)
    raise SystemExit(1)

if CALL.starts:
    # jobs inherit it, also those of a cluster
    os.environ[made_by.COMMAND] = made_by.without_secrets(["snakemake", *sys.argv[1:]])

if CALL.starts and (line := warning_of_future(PATHS.results)):
    print(f"unirefine: warning: {printable(line)}", file=sys.stderr)
if CALL.is_main and (
    line := training_note(
        f"{PATHS.results}/train/final", storage_of(workflow), CALL.bucket
    )
):
    print(f"unirefine: {printable(line)}", file=sys.stderr)

# `tee` writes the log. Where our logger plugin shows it, nothing of a job goes to the terminal itself.
quiet = "exec >/dev/null; " if CALL.follows_logs else ""
shell.prefix(f"set -euo pipefail; export {LOG_TIMES}=1; {quiet}")

LEVELS = PATHS.levels
CUSTOM_FASTA = CONFIG.release.source == "fasta"
MMSEQS = words("--mmseqs", CONFIG.tools.mmseqs)
MMSEQS_VERSION = mmseqs_version(CONFIG)


wildcard_constraints:
    level="uniref50|uniref90",
    part=r"\d{3}",


def local_input(path):
    """A file of the user's as an input: on this machine also where results are in a bucket. Nothing for no file."""
    return local(path) if path else []


def records_input(level):
    """What the records of a level are read from: its file, or the data set."""
    release = CONFIG.release
    if release.on_hub:
        return f"{RELEASE}/{names.DATA_SET}"
    if release.is_data_set:
        return [local_input(path) for path in PATHS.data_set()]
    if CUSTOM_FASTA:
        return local_input(release.fasta)
    return f"{RELEASE}/{names.level_download(level, release.format)}"
