"""What the rules pass on to their commands. Snakemake compares these params with those of the last run.

It compares strings and lists of strings; not paths, not pydantic models, and not what a function makes of a job's
inputs or outputs. Params that are shell words are lists, so that `{params.name:q}` quotes each word.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unirefine.config import Config
from unirefine.core.levels import LEVELS
from unirefine.errors import UserError
from unirefine.files import names
from unirefine.files.code import stage_digest
from unirefine.files.urls import is_path
from unirefine.tools import find_mmseqs, tool_version


def stage_options(config: Config, stage: str, *only: str) -> str:
    """A stage's options as a JSON string, so that a changed option reruns the stage.

    Where a stage has several rules, each names in `only` the options that it reads: a change of another one does not
    rerun it.
    """
    return getattr(config, stage).model_dump_json(include=set(only) or None)


def untracked(value: Any) -> Callable[..., Any]:
    """A param that Snakemake does not compare, because it looks like one made of outputs."""
    return lambda wildcards, output: value


def download_options(config: Config, file: str) -> str:
    """The options that decide what one download is. Another mirror or one more purge list downloads nothing again."""
    return _source(config, file) or stage_options(config, "release", "source", "name")


def local_download(config: Config, file: str) -> str | None:
    """The path on this machine that a download is copied from; None where it comes from a URL."""
    source = _source(config, file)
    return source if source is not None and is_path(source) else None


def _source(config: Config, file: str) -> str | None:
    """Where the config says that a download comes from; None for UniProt's own files."""
    if file == names.TAXDUMP:
        return config.release.taxdump
    number = names.parse_purge_list(file)
    return None if number is None else config.release.purge_lists[number]


def release_files(config: Config) -> list[str]:
    """Names of the downloads that a config needs."""
    release = config.release
    return names.release_files(
        LEVELS if release.is_uniprot else (),
        release.format,
        idmapping=release.needs_idmapping,
        taxdump=bool(release.taxdump),
        purge_lists=len(release.purge_lists),
    )


def archived_files(config: Config) -> list[str]:
    """The downloads that come out of the one tarball of an older release."""
    return [name for name in release_files(config) if _is_archived(config, name)]


def single_downloads(config: Config) -> list[str]:
    """The downloads that come one by one. Each job checks that the disk has room for all of them."""
    return [name for name in release_files(config) if not _is_archived(config, name)]


def _is_archived(config: Config, name: str) -> bool:
    return config.release.source == "archive" and name.startswith("uniref")


def words(option: str, *values: str | None) -> list[str]:
    """`[option, value, option, value, ...]`; nothing for a value that is empty or None."""
    return [word for value in values if value for word in (option, value)]


def code_digest(stage: str) -> str:
    """Digest of a stage's code: an edit reruns the stage. `train` does not get one: no edit discards a model."""
    return f"code:{stage_digest(stage)}"


def mmseqs_version(config: Config) -> str:
    """The version of MMseqs2 that is found here. One of a conda environment or container is tracked through that."""
    with contextlib.suppress(UserError):
        return f"MMseqs2:{tool_version(find_mmseqs(config.tools.mmseqs))}"
    return "MMseqs2:not found here"


def model_command(config: Config, stage: str) -> list[str]:
    """The words of the command of a stage that runs a model, under torchrun where one model takes several processes."""
    processes = getattr(config, stage).parallel.processes
    if processes == 1:
        return ["unirefine", stage]
    threads = max(1, config.run.threads // processes)  # Snakemake gives each of them all threads of the rule
    return [
        *("env", f"OMP_NUM_THREADS={threads}", f"MKL_NUM_THREADS={threads}"),
        *("torchrun", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)),
        *("-m", "unirefine.cli.main", stage),
    ]


def container_prefix(image: str, arguments: str, nodes: int) -> str:
    """What stands before `unirefine train` with `--sdm apptainer`: it starts a container on every node.

    `srun` starts the containers, because an image has no Slurm in it. arguments: of `apptainer exec`.
    """
    step = f"srun --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --cpu-bind=none --wait=60"
    step += (
        "${SLURM_CPUS_PER_TASK:+ --cpus-per-task=$SLURM_CPUS_PER_TASK}"  # a step has one core unless it asks for more
    )
    return f'${{SLURM_JOB_ID:+{step}}} apptainer exec --home "$PWD" {arguments} {image}'


def parent(path: Path | str, levels: int = 1) -> str:
    """The directory that many levels above a file. Rules declare files; commands take their directories."""
    return str(Path(path).parents[levels - 1])


def refuse_braces(config: Config, checkout: Path | str) -> None:
    """Raises UserError for a brace in the text of an option or in the path of the checkout.

    Snakemake would read it as a wildcard or a variable. checkout: where the Snakefile is.
    """
    texts = [*_texts("", config.model_dump(mode="json")), ("the checkout", str(checkout))]
    for name, text in texts:
        if "{" in text or "}" in text:
            raise UserError(
                f"{name} is {text!r}, and Snakemake takes braces for wildcards", fix="rename it without { and }"
            )


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every string in nested options."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(f"{name}.{key}".lstrip("."), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(name, inner)
