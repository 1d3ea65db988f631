"""Sizes and SHA-256 of a model's files: recorded when they are written, compared before they are read.

The processes of a job divide the files, so each file is hashed once. A file that a process has just written is hashed
by that process, from the memory of its node.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.hashes import first_change, is_record, recorded

OF_A_RANK = re.compile(r"(?:.*/)?__(\d+)_\d+\.distcp")
"""Name of the files that a rank writes."""

Result = TypeVar("Result")


def share(names: Sequence[str]) -> list[str]:
    """Names of the files that this process hashes.

    Those that it has written; the others are divided among the processes of the first node, whose rank 0 wrote them.
    """
    rank, ranks = _place()
    near = min(ranks, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    mine, others = [], 0
    for name in names:
        if match := OF_A_RANK.fullmatch(name):
            owner = int(match[1]) % ranks
        else:
            owner, others = others % near, others + 1
        if owner == rank:
            mine.append(name)
    return mine


def record(directory: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """`{name, bytes, sha256}` of files in a directory, in order. Collective: every process gets all of them.

    Raises OSError on every process when one cannot read its share.
    """
    names = list(names)
    found = [file for files in _on_all(lambda: recorded(directory, share(names))) for file in files]
    return sorted(found, key=lambda file: names.index(file["name"]))


def problem(directory: Path, files: Any) -> str | None:
    """What is wrong with the first file that is not as it was recorded, with its name; None when all are. Collective.

    files: from `record`, as read from JSON.
    """
    if not is_record(files):
        return "its list of files is not one of names in it, sizes and hashes"
    mine = set(share([file["name"] for file in files]))
    threads = torch.get_num_threads()
    changes = _on_all(
        lambda: first_change(directory, [file for file in files if file["name"] in mine], threads=threads)
    )
    return next((f"{change[0]}: {change[1]}" for change in changes if change is not None), None)


def agree(wrong: str | None) -> str | None:
    """What is wrong on the first process that has something to say. Collective; the same on every process."""
    return next((each for each in _on_all(lambda: wrong) if each is not None), None)


def check_lineage(directory: Path) -> None:
    """Compare the files of an exported model with its `lineage.json`, where it has one. Collective.

    Raises UserError for a file that is not what was exported.
    """
    if not (directory / lineage.FILE).is_file():
        return
    files = lineage.read(directory).get("files", [])
    if is_record(files):  # earlier versions named them from the directory above
        files = [file for file in files if "/" not in file["name"]]
    if wrong := problem(directory, files):
        raise UserError(
            f"damaged: {wrong}", where=directory,
            fix=f"get it again; if you have changed the model yourself, delete its {lineage.FILE}",
        )  # fmt: skip


def _place() -> tuple[int, int]:
    """(rank, number of processes) of the process group; one that is alone needs none."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _on_all(call: Callable[[], Result]) -> list[Result]:
    """What `call` returns on each process, on every process. An OSError of one is raised on all."""
    result: Any = None
    failure: tuple[int | None, str, str | None] | None = None
    try:
        result = call()
    except OSError as error:
        failure = (error.errno, error.strerror or str(error), error.filename and str(error.filename))
    _rank, ranks = _place()
    gathered: list[Any] = [(result, failure)] * ranks
    if ranks > 1:
        torch.distributed.all_gather_object(gathered, (result, failure))
    for _result, failed in gathered:
        if failed is not None:
            raise OSError(*failed)
    return [each for each, _failed in gathered]
