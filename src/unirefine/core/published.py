"""A data set of Parquet files: `train/`, `validation/` and maybe `test/`, with `sequence`, `ur50_id` and `ur90_id`.

This is the layout of NVIDIA's published ESM-2 data. A row is one UniRef90 sequence; those of validation are the
representatives of their UniRef50 clusters, so their `ur90_id` may be missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core import parquet
from unirefine.core.levels import SIDES, TEST, TRAIN, VALIDATION
from unirefine.errors import UserError, no_directory

CLUSTER, MEMBER, SEQUENCE = "ur50_id", "ur90_id", "sequence"
BATCH_ROWS = 1 << 13
"""With sequences of 350 residues, 3 MB."""
_FIX = "copy or download it again"


@dataclass(frozen=True)
class Rows:
    """n rows of one file of a data set, in its order."""

    file: str
    """Name of the file in the data set, as in `train/000.parquet`."""
    numbers: np.ndarray
    """int64[n]: the rows in the file, from 0."""
    side: int
    """The side of all of them (core.levels)."""
    members: pa.Array
    """string[n]: UniRef90 ids."""
    clusters: pa.Array
    """string[n]: the UniRef50 id of each."""
    sequences: pa.Array | None = None
    """string[n]; None where only ids were read."""

    def name(self, row: int) -> str:
        """A row in messages: `train/000.parquet row 17`, counted from 1."""
        return f"{self.file} row {self.numbers[row] + 1:,}"

    def take(self, rows: np.ndarray) -> "Rows":
        """Some of the rows, int64[k]."""
        at = pa.array(rows)
        sequences = None if self.sequences is None else self.sequences.take(at)
        return Rows(self.file, self.numbers[rows], self.side, self.members.take(at), self.clusters.take(at), sequences)


def files(directory: Path, sides: Sequence[int] = (TRAIN, VALIDATION, TEST)) -> list[tuple[Path, int]]:
    """(file, its side) of some sides of a data set, by side and name. Raises UserError without train or validation."""
    found = {side: sorted((directory / SIDES[side]).glob("*.parquet")) for side in sides}
    for side, name in enumerate(SIDES[:2]):
        if side in found and not found[side]:
            raise UserError(
                f"no Parquet files in {name}/" if directory.is_dir() else no_directory(directory),
                where=directory,
                fix="a data set has train/ and validation/ with *.parquet",
            )
    return [(path, side) for side, paths in found.items() for path in paths]


def read(directory: Path, *, sequences: bool, sides: Sequence[int] = (TRAIN, VALIDATION, TEST)) -> Iterator[Rows]:
    """The rows of some sides of a data set in the order of its files. sequences: whether to read them too.

    Raises UserError for a file that is damaged, lacks a column, or has one of another type or with missing values.
    """
    for path, side in files(directory, sides):
        name = path.relative_to(directory).as_posix()
        with parquet.File(path, _FIX) as file:
            schema = file.schema_arrow
            wanted = [column for column in (CLUSTER, MEMBER, SEQUENCE) if _check(schema, column, path, side)]
            row = 0
            columns = wanted if sequences else [column for column in wanted if column != SEQUENCE]
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                if batch.num_rows == 0:
                    continue
                yield _rows(batch, name, row, side, path)
                row += batch.num_rows


def _check(schema: pa.Schema, column: str, path: Path, side: int) -> bool:
    """Whether the column is there. Raises UserError where it must be and is not, or is no text."""
    places = schema.get_all_field_indices(column)
    if not places and column == MEMBER and side != TRAIN:
        return False
    if len(places) != 1:
        what = f"no column {column!r}" if not places else f"two columns {column!r}"
        raise UserError(f"{what}; it has {', '.join(schema.names[:20])}", where=path, fix="rename the columns")
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UserError(f"column {column!r} is {kind}, not string", where=path, fix="write it as text")
    return True


def _rows(batch: pa.RecordBatch, name: str, first: int, side: int, path: Path) -> Rows:
    columns = {}
    for column in batch.schema.names:
        try:
            text = batch.column(column).cast(pa.string())
        except pa.ArrowInvalid as error:  # a dictionary whose text is none
            raise UserError(f"column {column!r}: {error}", where=path, fix=_FIX) from None
        columns[column] = text
    clusters, members = columns[CLUSTER], columns.get(MEMBER)
    if members is None:
        members = pa.nulls(batch.num_rows, pa.string())
    missing = pc.fill_null(pc.equal(members, ""), True)
    for column, empty in ((CLUSTER, pc.fill_null(pc.equal(clusters, ""), True)), (MEMBER, missing)):
        if (column == CLUSTER or side == TRAIN) and pc.any(empty).as_py():
            row = first + pc.index(empty, True).as_py() + 1
            raise UserError(f"row {row:,} has no {column}", where=path, fix="complete it, or leave the row out")
    if side != TRAIN and pc.any(missing).as_py():  # the representative's own: UniRef90_K for UniRef50_K
        members = pc.if_else(missing, pc.replace_substring_regex(clusters, "^UniRef50_", "UniRef90_"), members)
    sequences = columns.get(SEQUENCE)
    if sequences is not None and sequences.null_count:
        row = first + pc.index(pc.is_null(sequences), True).as_py() + 1
        raise UserError(f"row {row:,} has no sequence", where=path, fix="complete it, or leave the row out")
    return Rows(name, first + np.arange(len(members)), side, members, clusters, sequences)
