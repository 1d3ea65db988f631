"""NCBI's taxonomy dump, taxdump.tar.gz, read as a stream and not trusted."""

import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from unirefine.core.idlist import some
from unirefine.core.tars import BadTar, Content, files
from unirefine.errors import UserError

LARGEST = 2**27 - 1
"""Largest number of a taxon that is taken; NCBI's have reached 4 million. It bounds the memory, 4 bytes a number."""
_TABLES = ("nodes.dmp", "merged.dmp")
_NAMES = "names.dmp"
_EXPANSION = 20
_SLACK_BYTES = 64 << 20
"""The dump's content is at most that many times its size, and this: NCBI's is six times its size."""
_LONGEST_LINE = 1 << 16


@dataclass(frozen=True)
class Dump:
    """NCBI's taxonomy."""

    path: Path
    nodes: np.ndarray
    """int32[n, 2]: taxon and parent."""
    merged: np.ndarray
    """int32[m, 2]: a taxon that is gone, and the one that it was merged into."""
    names: dict[int, str] = field(default_factory=dict)
    """Scientific names of the taxa that were asked for."""

    @property
    def largest(self) -> int:
        """Largest taxon."""
        return int(max(self.nodes.max(), self.merged.max(initial=0)))


def read_dump(taxdump: Path | str, named: Collection[int] = ()) -> Dump:
    """Read nodes.dmp and merged.dmp, and of names.dmp the names of the taxa `named`.

    The files may be in a directory of the archive, as in `./nodes.dmp`. Raises UserError for a dump that cannot be read
    or that has no nodes.
    """
    path = Path(taxdump)
    tables: dict[str, np.ndarray] = {}
    names: dict[int, str] = {}
    fix = "fetch NCBI's taxdump.tar.gz again"
    try:
        with path.open("rb", buffering=0) as file:
            content = Content(file, _EXPANSION * path.stat().st_size + _SLACK_BYTES)
            for member, data in files(content, content):
                name = PurePosixPath(member.name).name
                if name == _NAMES and named:
                    names.update(_scientific_names(data, named))
                if name not in _TABLES:
                    continue
                if name in tables:
                    raise UserError(f"two files {name} inside", where=path, fix=fix)
                tables[name] = np.fromiter(_two_columns(data, name, path), np.int32).reshape(-1, 2)
            members = content.names
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="run the release stage, or leave --taxdump out") from None
    except (BadTar, tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise UserError(f"not a taxonomy dump ({error})", where=path, fix="fetch taxdump.tar.gz again") from None
    if "nodes.dmp" not in tables:
        raise UserError(f"no nodes.dmp inside; it has {some(members) or 'nothing'}", where=path, fix=fix)
    if not len(tables["nodes.dmp"]):
        raise UserError("no taxa in nodes.dmp", where=path, fix=fix)
    return Dump(path, tables["nodes.dmp"], tables.get("merged.dmp", np.empty((0, 2), np.int32)), names)


def tops(parent: np.ndarray) -> np.ndarray:
    """The taxon at which the way up from each taxon ends.

    parent: int32[n], of each taxon its parent, or itself where the way ends. Returns int32[n]. The time does not grow
    with the depth of the tree, and loops end too.
    """
    up = parent
    for _ in range(len(parent).bit_length()):  # each round doubles the steps up; in a tree of any depth that is enough
        further = up[up]
        if np.array_equal(further, up):
            break
        up = further
    return up


def _two_columns(file: IO[bytes], name: str, taxdump: Path) -> Iterator[int]:
    """First and second column of each line, one after the other; lines that are empty or begin with `#` are skipped."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.strip() or line.startswith(b"#"):
            continue
        columns = [column.strip() for column in line.split(b"|", 2)]
        if len(columns) < 3 or not (columns[0].isdigit() and columns[1].isdigit()):
            shown = ascii(line[:40].decode("latin-1").strip())
            what = f"line {number} of {name} does not begin with two taxa: {shown}"
            raise UserError(what, where=taxdump, fix="fetch NCBI's taxdump.tar.gz again")
        for column in columns[:2]:
            if len(column) > 10 or int(column) > LARGEST:
                what = f"line {number} of {name} has a taxon beyond {LARGEST:,}: {column[:20].decode()}"
                raise UserError(what, where=taxdump, fix="remove that line: NCBI's numbers are smaller")
            yield int(column)


def _scientific_names(file: IO[bytes], named: Collection[int]) -> Iterator[tuple[int, str]]:
    """Taxon and name of the lines that have the scientific name of a taxon in `named`; other lines are skipped."""
    while line := file.readline(_LONGEST_LINE):
        columns = [column.strip() for column in line.split(b"|", 4)[:4]]
        if len(columns) == 4 and columns[3] == b"scientific name" and columns[0].isdigit() and len(columns[0]) <= 10:
            taxon = int(columns[0])
            if taxon in named:
                yield taxon, columns[1].decode("utf-8", "replace")
