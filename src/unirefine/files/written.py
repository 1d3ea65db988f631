"""The files that a stage writes, by name. Those of earlier options are deleted; `unirefine clean` deletes no others.

A name counts only where the stage writes it: paths are relative to the stage's directory. Symbolic links to directories
are not entered. A symbolic link with the name of a file is the file: deleting it leaves what it points to.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from unirefine.files import names

_LEVEL = r"uniref(50|90)"
_PART = r"\d{3}-of-\d{3}"
_SUFFIXES = "|".join(map(re.escape, names.SHARD_SUFFIXES))
_ALWAYS = r"counts\.json|lineage\.json"
_DOWNLOAD = (
    rf"{_LEVEL}\.(xml\.gz|fasta\.gz|release_note)|uniref\d{{4}}_\d{{2}}\.tar\.gz|purge-\d+\.txt"
    rf"|{re.escape(names.IDMAPPING)}|{re.escape(names.TAXDUMP)}"
    rf"|{names.DATA_SET}(\.part)?/(train|validation|test)/[^/]+\.parquet"
)
FILES = {
    "release": rf"({_DOWNLOAD})(\.part)?(\.json)?|release\.json",
    "records": rf"{_LEVEL}/((records|members)-{_PART}\.parquet|removed\.parquet|{_ALWAYS})",
    "curate": rf"({_LEVEL}|removed)\.parquet|purge_not_found\.txt|{_ALWAYS}",
    "cluster": rf"(clusters|membership|removed|violations)\.parquet|mmseqs\.log|{_ALWAYS}",
    "split": rf"split\.parquet|missing_ids\.txt|{_ALWAYS}",
    "decontaminate": (
        rf"queries/part-{_PART}\.fasta|target\.fasta|(hits|audit|nearest)/part-{_PART}\.parquet"
        rf"|(split|removed|audit|benchmarks)\.parquet|identity\.json|{_ALWAYS}"
    ),
    "shard": rf"(train-{_PART}|validation|test)\.({_SUFFIXES})|manifest\.json|{_ALWAYS}",
    # all of final/: while that directory is there, Snakemake takes the model for made
    "train": (
        r"final/.+|checkpoints/step-\d{8}/.+|tensorboard/events\.out\.tfevents\..+|wandb/.+|metrics\.jsonl|lineage\.json"
    ),
    "evaluate": r"perplexity\.json|proteins\.parquet",
    "embed": r"(sequences|residues)\.(parquet|npy)|map\.(html|png|parquet)|\.(arrays|embedded)\.json",
    "cards": r"(data|model)/README\.md",
    "report": (
        r"report\.html|figures/(loss|two-losses|throughput|(removed|flow)-uniref(50|90)|identity(-test)?|lengths|workflow"
        r"|cluster-sizes|amino-acids|taxa|(hidden-)?perplexity|continued|by-(length|identity|cluster-size|residue|taxon))\.svg"
    ),
}
"""By stage, a regular expression of all names that it writes under any options."""
_UNFINISHED = re.compile(
    r"(.+/)?(\.lock|\.search-\d{3}\.lock|\.snakemake_timestamp)"
    r"|(.+/)?\.[^/]+\.[0-9a-f]{12}\.[a-z]+(/.+)?"
    r"|\.chunks-[0-9a-f]{16}/.+|\.final\.(tmp|old)/.+|checkpoints/\.step-[^/]+/.+"
)
"""Locks, and what a killed process left (see `unirefine.files.atomic`)."""


def stage_files(directory: Path, stage: str, *, unfinished: bool = False) -> list[Path]:
    """The files below `directory` that the stage has written, sorted.

    Of downloads, which may lie in a directory of the user's, only those with their facts in a `.json` beside them.
    unfinished: also locks, and what a killed process left.
    """
    return sorted(path for path in _files(directory) if _is_of(stage, path, directory, unfinished=unfinished))


def other_files(directory: Path, stage: str) -> list[Path]:
    """The files below `directory` that the stage has not written, and symbolic links to directories; sorted."""
    return sorted(path for path in _files(directory) if not _is_of(stage, path, directory, unfinished=True))


def delete_stale(directory: Path, stage: str, keep: Iterable[str], *, below: str = "") -> list[Path]:
    """Delete the stage's files that are not among `keep`: those of other options. Returns them.

    keep: names relative to `directory`. below: a directory in it, outside of which nothing is deleted.
    """
    kept = {directory / name for name in keep}
    found = _files(directory / below, levels=1)  # no deeper: the directory may be one that holds much else
    stale = sorted(path for path in found if path not in kept and _is_of(stage, path, directory))
    delete_files(directory, stale)
    return stale


def delete_files(directory: Path, files: Iterable[Path]) -> None:
    """Delete files below `directory`, and the directories that are empty then, `directory` itself among them."""
    emptied = set()
    for path in files:
        path.unlink()
        emptied.add(path.parent)
    for parent in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        while parent.is_relative_to(directory) and _is_empty(parent):
            parent.rmdir()
            parent = parent.parent


def _is_empty(directory: Path) -> bool:
    """Whether it is a directory, no symbolic link to one, without anything in it."""
    return directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir())


def _files(directory: Path, levels: int | None = None) -> Iterator[Path]:
    """Every path below a directory that is no directory; symbolic links are not followed.

    levels: how many levels of directories are entered below the first; None for all.
    """
    for base, folders, files in os.walk(directory):
        links = [name for name in folders if Path(base, name).is_symlink()]
        yield from (Path(base, name) for name in (*files, *links))
        if levels is not None and len(Path(base).relative_to(directory).parts) >= levels:
            folders.clear()


def _is_of(stage: str, path: Path, directory: Path, *, unfinished: bool = False) -> bool:
    """Whether the stage has written a file below its directory; see `stage_files`."""
    name = path.relative_to(directory).as_posix()
    if re.fullmatch(FILES[stage], name):
        return stage != "release" or _was_downloaded(path)
    return unfinished and _UNFINISHED.fullmatch(name) is not None


def _was_downloaded(path: Path) -> bool:
    """Whether a file of a release directory was downloaded into it: a download has its facts beside it."""
    if path.name == "release.json":
        return _keys(path) >= {"source", "release", "files"}
    if path.name.endswith(".part") and not path.name.startswith("uniref"):
        return True  # a purge list or taxdump whose md5 nobody states is begun without facts
    facts = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    expected = {"size", "md5"} if facts.name.endswith(".part.json") else {"file", "url", "sha256"}
    return _keys(facts) >= expected


def _keys(path: Path) -> set[str]:
    """The keys of a JSON object; none where there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(value) if isinstance(value, dict) else set()
