"""A published id list: text with one id a line, or Parquet with a column `id`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.ids import keys_of
from unirefine.errors import UserError

_PREFIX = re.compile(r"^UniRef\d+_")
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class IdList:
    """The n distinct ids of a list, in the order of their keys."""

    ids: np.ndarray
    """object[n]: the ids as written in the list."""
    keys: np.ndarray
    """uint64[n], ascending."""
    listed: int
    """Ids in the file, with repeats."""


def read_ids(path: Path | str) -> IdList:
    """Read a list of UniRef50 ids, `UniRef50_P12345` or `P12345`; in text, `#` starts a comment.

    Raises UserError when the file is missing, empty, has no column `id`, or holds ids of another level.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            parquet = handle.read(4) == _MAGIC
        ids = list(_parquet_ids(path) if parquet else _text_ids(path))
    except FileNotFoundError:
        raise UserError("no such id list", where=path, fix="check split.ids") from None
    except UnicodeDecodeError:
        raise UserError("neither Parquet nor UTF-8 text", where=path, fix="give one id a line") from None
    if not ids:
        raise UserError("no ids in this list", where=path, fix="give one id a line, or a Parquet column `id`")
    other = next((name for name in ids if name.startswith(("UniRef90_", "UniRef100_"))), None)
    if other is not None:
        raise UserError(f"{other} is not a UniRef50 id", where=path, fix="the split is one of UniRef50 clusters")
    keys = _keys(ids)
    keys, first = np.unique(keys, return_index=True)
    return IdList(np.array(ids, object)[first], keys, len(ids))


def _keys(ids: list[str]) -> np.ndarray:
    """Keys of ids, without their UniRef prefix: uint64[n]."""
    bare = [_PREFIX.sub("", name).encode() for name in ids]
    offsets = np.zeros(len(bare) + 1, np.int64)
    np.cumsum([len(name) for name in bare], out=offsets[1:])
    return keys_of(np.frombuffer(b"".join(bare), np.uint8), offsets)


def _text_ids(path: Path) -> Iterator[str]:
    """The first word of every line that has one, without comments."""
    with path.open(encoding="utf-8-sig") as lines:
        for line in lines:
            words = line.partition("#")[0].split()
            if words:
                yield words[0]


def _parquet_ids(path: Path) -> Iterator[str]:
    """The column `id`, without nulls and empty strings."""
    with parquet.File(path, "get the list again") as file:
        if "id" not in file.schema_arrow.names:
            raise UserError(
                f"no column `id`; it has {', '.join(file.schema_arrow.names)}", where=path, fix="rename the column"
            )
        for batch in file.iter_batches(columns=["id"]):
            yield from (name for name in batch.column(0).cast(pa.string()).to_pylist() if name)
