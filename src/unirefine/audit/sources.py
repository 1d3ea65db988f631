"""What an audit reads: FASTA, Parquet, shards of a run, and lists of ids whose sequences a run's records have."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.alphabet import TOKEN_TO_BYTE
from unirefine.core.idlist import read_lines, some, spellings
from unirefine.core.ids import keys_of
from unirefine.core.proteins import BLOCK_ROWS, Proteins, is_parquet, read_proteins
from unirefine.core.tables import find_parts, iterate, string_buffers
from unirefine.dataset import Side, open_shards
from unirefine.dataset.reader import open_ids
from unirefine.errors import UserError
from unirefine.files.inputs import require_file
from unirefine.files.stages import shards_of

ROLES = {"train": ("train",), "against": ("validation", "test")}
"""By option, the sides of shards and of a data set of Parquet files that it means."""
_MANIFEST = "manifest.json"
_LETTERS = np.where(TOKEN_TO_BYTE < 65, ord("X"), TOKEN_TO_BYTE).astype(np.uint8)  # tokens without a letter: X
_LEVELS = ("uniref90", "uniref50")
"""The levels in which a bare accession is sought, in this order."""


@dataclass(frozen=True)
class Source:
    """Sequences of one path."""

    path: Path
    kind: str
    """`FASTA`, `Parquet`, `shards` or `id list`."""
    blocks: Callable[[], Iterator[Proteins]]
    """Reads them."""


def open_sources(paths: list[Path], option: str, records: Path | None) -> list[Source]:
    """Find out what each path is. option: `train` or `against`. records: directory of the records stage, for id lists.

    Raises UserError for a path that is missing, given twice, or none of what can be read.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise UserError(f"given twice to --{option}", where=path, fix="name it once")
        seen.add(path.resolve())
    return [_open(path, option, records) for path in paths]


def _open(path: Path, option: str, records: Path | None) -> Source:
    if path.is_dir():
        return _open_directory(path, option)
    require_file(path, f"check --{option}")
    if is_parquet(path):
        with parquet.File(path, "get the file again") as file:
            has_sequences = "sequence" in file.schema_arrow.names or "id" not in file.schema_arrow.names
        if has_sequences:
            return Source(path, "Parquet", lambda: read_proteins(path, option=f"--{option}"))
    elif not _is_id_list(path):
        return Source(path, "FASTA", lambda: read_proteins(path, option=f"--{option}"))
    if records is None:
        raise UserError(
            "neither FASTA nor Parquet with sequences; a list of ids needs the records of a run",
            where=path,
            fix="add --records results/<run>/records, or give the sequences",
        )
    return Source(path, "id list", lambda: _listed(path, records))


def _is_id_list(path: Path) -> bool:
    """Whether a file is text whose first line with anything on it is no header of FASTA."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < 1 << 16 else "ignore")
    except UnicodeDecodeError:
        return False  # compressed, or what the reader of FASTA will say
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return bool(first) and first.isprintable() and not first.startswith((">", ";"))


def _open_directory(path: Path, option: str) -> Source:
    """Shards, a run with shards, or a directory of Parquet files."""
    shards = shards_of(path)
    if (shards / _MANIFEST).exists():
        return Source(shards, "shards", functools.partial(_shards, shards, option))
    if (path / "train.db").exists():
        raise UserError(
            "BioNeMo's databases, which audit does not read", where=path,
            fix="give the sequences as FASTA, or the shards of a run with release.source: bionemo",
        )  # fmt: skip
    places = [path, *(path / side for side in ROLES[option])]
    for files in (sorted(place.glob("*.parquet")) for place in places):
        if files:
            return Source(path, "Parquet", functools.partial(_files, files, option))
    raise UserError(
        f"no shards in it, and no Parquet files ({', '.join(f'{place.name}/*.parquet' for place in places)})",
        where=path,
        fix="give the directory of shards, of a run, or of Parquet files",
    )


def _files(files: list[Path], option: str) -> Iterator[Proteins]:
    for file in files:
        yield from read_proteins(file, option=f"--{option}")


def _shards(directory: Path, option: str) -> Iterator[Proteins]:
    opened = open_shards(directory)
    for name in ROLES[option]:
        if name in opened.sides:
            yield from _side(opened.sides[name])


def _side(side: Side) -> Iterator[Proteins]:
    first = 0
    for file, prefix in enumerate(side.prefixes):
        with open_ids(prefix, side.sequences_of(file)) as table:
            for batch in table.iter_batches(BLOCK_ROWS, columns=["id"]):
                texts = [_LETTERS[side.tokens(first + at)].tobytes() for at in range(len(batch))]
                names = batch.column("id").cast(pa.large_string())
                yield Proteins(names, pa.array(texts, pa.large_binary()).cast(pa.large_string()))
                first += len(batch)


def _listed(path: Path, records: Path) -> Iterator[Proteins]:
    """The records of the ids in a list. Raises UserError when an id is in no record."""
    names = list(dict.fromkeys(_names(path)))
    if not names:
        raise UserError("no ids in this list", where=path, fix="give one id a line, or a Parquet column `id`")
    keys = keys_of(*string_buffers(pa.array([spellings(name)[-1] for name in names], pa.large_string())))
    missing = np.ones(len(names), bool)
    for level in _LEVELS:
        parts = find_parts(records, level)
        if parts is None:
            continue
        other = [one for one in ("uniref100", *_LEVELS) if one != level]
        wanted = np.array([not name.lower().startswith(tuple(f"{one}_" for one in other)) for name in names])
        sought = np.flatnonzero(wanted & missing)
        order = sought[np.argsort(keys[sought], kind="stable")]
        ascending = keys[order]
        for _row, batch in iterate(parts, ["id", "key", "sequence"], batch_rows=BLOCK_ROWS):
            if not len(order):
                break
            found = batch.column("key").to_numpy()
            at = np.minimum(np.searchsorted(ascending, found), len(ascending) - 1)
            hits = np.flatnonzero(ascending[at] == found)
            missing[np.isin(keys, found[hits]) & wanted] = False
            chosen = batch.take(pa.array(hits))
            yield Proteins(*(chosen.column(name).cast(pa.large_string()) for name in ("id", "sequence")))
    if missing.any():
        lacking = [names[at] for at in np.flatnonzero(missing)]
        raise UserError(
            f"{len(lacking):,} of {len(names):,} ids are not in {records}: {some(lacking)}",
            where=path,
            fix="give the records of their release, or leave them out",
        )


def _names(path: Path) -> Iterator[str]:
    if not is_parquet(path):
        yield from (name for _line, name in read_lines(path, "give one id a line"))
        return
    with parquet.File(path, "get the list again") as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=["id"]):
            yield from (name for name in batch.column(0).cast(pa.string()).to_pylist() if name)
