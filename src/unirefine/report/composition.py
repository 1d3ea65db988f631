"""Amino acids, taxa and lengths of the input, of what curation kept, and of train: from a sample of the records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core.levels import LEVELS, TRAIN
from unirefine.core.tables import Parts, find_parts, iterate_file, numbers, open_parquet, string_buffers
from unirefine.files.stages import stage_path

AMINO_ACIDS = "ALGVESIKRDTPNQFYMHCW"
"""In the order of their frequency."""
SAMPLE = 50_000
GROUPS = 48
"""Row groups that are read, at most, spread evenly over the level; rows lie spread evenly within each."""
STEPS = ("input", "after curation", "train")


@dataclass(frozen=True)
class Sample:
    """n records of UniRef90, or of a FASTA of the user's own."""

    rows: np.ndarray
    """int64[n], ascending."""
    of: int
    """Records of the level."""
    letters: np.ndarray
    """int64[n, 21]: residues of each by AMINO_ACIDS, then all others."""
    taxon: np.ndarray
    """int64[n]: of the representative, else common to the cluster; -1 where not known."""
    kept: Mapping[str, np.ndarray]
    """By name in STEPS, which of them were there: bool[n]."""

    @property
    def text(self) -> str:
        """What was counted."""
        if len(self.rows) == self.of:
            return f"all {self.of:,} sequences"
        return f"a sample of {len(self.rows):,} of {self.of:,} sequences, spread evenly over the input"


def read_sample(results: Path) -> Sample | None:
    """The sample of a run; None where the records are no longer there or empty."""
    parts = find_parts(stage_path(results, "records"), LEVELS[1])
    if parts is None or not parts.rows:
        return None
    rows, letters, taxa = [], [], []
    for first, batch in _batches(parts):
        rows.append(first)
        letters.append(_letters(batch["sequence"]))
        taxa.append(_taxa(batch))
    found = np.concatenate(rows)
    curated = _among(stage_path(results, "curate") / f"{LEVELS[1]}.parquet", "curate", found)
    kept = {"input": np.ones(len(found), bool), "after curation": curated, "train": _in_train(results, found)}
    return Sample(found, parts.rows, np.concatenate(letters), np.concatenate(taxa), kept)


def _batches(parts: Parts):
    """Yield (rows int64[k], their columns) of the row groups of the sample."""
    groups = []
    for path, first in zip(parts.paths, parts.first_row, strict=False):
        with open_parquet(path, "records") as file:
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                if count:
                    groups.append((path, number, first, count))
                first += count
    if parts.rows > SAMPLE and len(groups) > GROUPS:
        groups = [groups[at] for at in np.linspace(0, len(groups) - 1, GROUPS).round().astype(int)]
    step = max(1, -(-sum(group[3] for group in groups) // SAMPLE))
    for path, number, first, _count in groups:
        with open_parquet(path, "records") as file:
            columns = [one for one in ("sequence", "taxon_id", "rep_taxon_id") if one in file.schema_arrow.names]
            table = file.read_row_group(number, columns=columns)
            at = np.arange(0, len(table), step)
            yield first + at, table.take(pa.array(at))


def _letters(column: pa.ChunkedArray) -> np.ndarray:
    """int64[n, 21]: how often each of AMINO_ACIDS, and what is none of them, stands in n sequences."""
    joined = column.combine_chunks().cast(pa.large_string())
    joined = joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)
    raw, offsets = string_buffers(joined)
    code = np.full(256, len(AMINO_ACIDS), np.int64)
    code[np.frombuffer(AMINO_ACIDS.encode(), np.uint8)] = np.arange(len(AMINO_ACIDS))
    width = len(AMINO_ACIDS) + 1
    found = np.zeros((len(joined), width), np.int64)
    for first in range(0, len(joined), 2000):  # bounds the memory of proteins of any length
        ends = offsets[first : first + 2001]
        owner = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        flat = np.bincount(owner * width + code[raw[ends[0] : ends[-1]]], minlength=(len(ends) - 1) * width)
        found[first : first + len(ends) - 1] = flat.reshape(-1, width)
    return found


def _taxa(table: pa.Table) -> np.ndarray:
    taxon = np.full(len(table), -1, np.int64)
    for name in ("taxon_id", "rep_taxon_id"):  # the second is the more exact
        if name in table.column_names:
            given = table[name].combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False)
            taxon = np.where(given > 0, given, taxon)
    return taxon


def _among(path: Path, stage: str, rows: np.ndarray) -> np.ndarray:
    """Which rows a table has in its column `row`: bool[n]."""
    found = np.zeros(len(rows), bool)
    for _first, batch in iterate_file(path, ["row"], stage):
        _mark(found, rows, numbers(batch.column(0)))
    return found


def _mark(found: np.ndarray, rows: np.ndarray, block: np.ndarray) -> None:
    at = np.minimum(np.searchsorted(rows, block), len(rows) - 1)
    found[at[rows[at] == block]] = True


def _in_train(results: Path, rows: np.ndarray) -> np.ndarray:
    """Which rows are members of train clusters in the end: bool[n]."""
    path = stage_path(results, "decontaminate") / "split.parquet"
    side = np.concatenate([numbers(batch.column(0)) for _row, batch in iterate_file(path, ["side"], "decontaminate")])
    found = np.zeros(len(rows), bool)
    members = stage_path(results, "cluster") / "membership.parquet"
    for _first, batch in iterate_file(members, ["cluster", "row"], "cluster"):
        cluster, block = (numbers(column) for column in batch.columns)
        _mark(found, rows, block[side[cluster] == TRAIN])
    return found
