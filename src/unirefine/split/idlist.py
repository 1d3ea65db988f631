"""An id list of clusters: text with one id a line, or Parquet with a column `id` (or `ur50_id`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.idlist import entry_name_in, read_lines, spellings
from unirefine.core.ids import keys_of
from unirefine.core.tables import string_buffers
from unirefine.errors import UserError
from unirefine.files.inputs import require_file

_MAGIC = b"PAR1"
_OTHER_LEVELS = ("uniref90_", "uniref100_")


@dataclass(frozen=True)
class IdList:
    """The n distinct ids of a list, in the order of what they mean (of the keys of their last spellings)."""

    ids: np.ndarray
    """object[n]: the ids as written in the list."""
    keys: np.ndarray
    """uint64[m], ascending, no key twice: of all spellings."""
    entries: np.ndarray
    """int64[m]: position of the id of each key."""
    listed: int
    """Ids in the file, with repeats."""

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Position of the listed id of each key, or -1: int64[n]. keys: uint64[n]."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.entries[at], -1)


def read_ids(path: Path | str) -> IdList:
    """Read a list of UniRef50 ids, `UniRef50_P12345` or `P12345` in any spelling of `core.idlist`.

    Raises UserError when the file is missing, empty, has no column `id`, or holds ids of another level.
    """
    path = Path(path)
    require_file(path, "check split.ids", "id list")
    with path.open("rb") as handle:
        parquet = handle.read(4) == _MAGIC
    ids = list(_parquet_ids(path) if parquet else _text_ids(path))
    if not ids:
        raise UserError("no ids in this list", where=path, fix="give one id a line, or a Parquet column `id`")
    other = next((name for name in ids if name.lower().startswith(_OTHER_LEVELS)), None)
    if other is not None:
        raise UserError(f"{other} is not a UniRef50 id", where=path, fix="the split is one of UniRef50 clusters")
    spelled = [_all_spellings(name) for name in ids]
    means, first, entry = np.unique(_keys([names[-1] for names in spelled]), return_index=True, return_inverse=True)
    counts = [len(names) for names in spelled]
    keys, at = np.unique(_keys([name for names in spelled for name in names]), return_index=True)
    entries = np.repeat(entry, counts)[at]
    exact = np.searchsorted(keys, means)
    entries[exact] = np.arange(len(means))  # what an id means counts more than how another one is spelled
    return IdList(np.array(ids, object)[first], keys, entries, len(ids))


def _all_spellings(name: str) -> list[str]:
    """The spellings of an id and, of an entry's name, that in upper case; what it means is the last one."""
    found = list(spellings(name))
    if (entry_name := entry_name_in(name)) is not None and entry_name not in found:
        found.insert(0, entry_name)
    return found


def _keys(names: list[str]) -> np.ndarray:
    """Keys of ids: uint64[n]."""
    return keys_of(*string_buffers(pa.array(names, pa.large_string())))


def _text_ids(path: Path) -> Iterator[str]:
    for _line, name in read_lines(path, "give one id a line, or a Parquet column `id`"):
        yield name


def _parquet_ids(path: Path) -> Iterator[str]:
    """The column `id`, or `ur50_id` of a published data set, without nulls and empty strings."""
    with parquet.File(path, "get the list again") as file:
        names = file.schema_arrow.names
        column = next((name for name in ("id", "ur50_id") if name in names), None)
        if column is None:
            what = f"no column `id` or `ur50_id`; it has {', '.join(names)}"
            raise UserError(what, where=path, fix="rename the column")
        for batch in file.iter_batches(columns=[column]):
            yield from (name for name in batch.column(0).cast(pa.string()).to_pylist() if name)
