"""Open shards for reading: every index checked, memory-mapped, one set of sequences per side."""

import mmap
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa

from unirefine.core import parquet
from unirefine.core.alphabet import TOKENS
from unirefine.core.ids import pack
from unirefine.core.tables import open_parquet, string_buffers
from unirefine.dataset.indexed import Index, map_file, read_index
from unirefine.dataset.manifest import REBUILD, UNKNOWN_TOKEN, VERIFY, check_size, read_manifest
from unirefine.dataset.mapped import MappedTables
from unirefine.errors import UserError

_UNIREF = np.frombuffer(b"UniRef", np.uint8)


class IndexedFiles:
    """Several IndexedDataset files as one set of sequences and documents, numbered in file order.

    Reads files of unirefine and of megatron-core (any integer dtype, the same in all files).
    """

    def __init__(self, prefixes: Sequence[Path | str]) -> None:
        """`prefixes`: paths without `.bin`/`.idx`. Raises UserError for a file that is missing, truncated or does not
        match, and for an index with an entry that is out of range.
        """
        self.prefixes = [Path(prefix) for prefix in prefixes]
        assert self.prefixes
        self._bins = [map_file(path.with_name(path.name + ".bin")) for path in self.prefixes]
        self._indices: list[Index] = [
            read_index(path.with_name(path.name + ".idx"), len(tokens))
            for path, tokens in zip(self.prefixes, self._bins, strict=True)
        ]
        self.dtype = self._indices[0].dtype
        for path, index in zip(self.prefixes, self._indices, strict=True):
            if index.dtype != self.dtype:
                raise UserError(
                    f"its tokens are {index.dtype}, those of {self.prefixes[0].name} {self.dtype}", where=path
                )
        self._first_sequence = [0]
        self._first_document = [0]
        for index in self._indices:
            self._first_sequence.append(self._first_sequence[-1] + len(index.lengths))
            self._first_document.append(self._first_document[-1] + len(index.documents) - 1)
        self._tokens = [_advised(tokens).view(self.dtype) for tokens in self._bins]
        self._starts = [index.pointers for index in self._indices]
        self._lengths = [index.lengths for index in self._indices]

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return self._first_sequence[-1]

    @property
    def documents(self) -> int:
        """Number of documents (UniRef50 clusters)."""
        return self._first_document[-1]

    def sequences_of(self, file: int) -> int:
        """Number of sequences in one of the files."""
        return len(self._lengths[file])

    def tokens(self, sequence: int) -> np.ndarray:
        """Tokens of a sequence, without special tokens: a read-only view, uint8[length] (or the files' dtype).

        Raises IndexError outside 0 .. sequences - 1.
        """
        file, local = self._locate(self._first_sequence, sequence)
        start = int(self._starts[file][local]) // self.dtype.itemsize
        return self._tokens[file][start : start + int(self._lengths[file][local])]

    def offset(self, sequence: int) -> int:
        """Byte of its .bin at which a sequence starts."""
        file, local = self._locate(self._first_sequence, sequence)
        return int(self._starts[file][local])

    def document(self, document: int) -> range:
        """Sequences of a document. Raises IndexError outside 0 .. documents - 1."""
        file, local = self._locate(self._first_document, document)
        offsets, first = self._indices[file].documents, self._first_sequence[file]
        return range(first + int(offsets[local]), first + int(offsets[local + 1]))

    def _locate(self, firsts: list[int], item: int) -> tuple[int, int]:
        if not 0 <= item < firsts[-1]:
            raise IndexError(f"{item} is not in 0 .. {firsts[-1] - 1}")
        file = bisect_right(firsts, item) - 1
        return file, item - firsts[file]

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32[sequences]: residues of each. A copy for several files (4 bytes a sequence); samplers use `tables`."""
        return np.concatenate(self._lengths)

    @cached_property
    def document_offsets(self) -> np.ndarray:
        """int64[documents + 1]: first sequence of each document, then `sequences`. A copy, 8 bytes a document."""
        shifted = [index.documents[:-1] + first for index, first in zip(self._indices, self._first_sequence)]  # noqa: B905
        return np.concatenate([*shifted, np.array([self.sequences], np.int64)])

    @cached_property
    def tables(self) -> MappedTables:
        """Addresses of the maps for compiled code; valid while this object lives."""

        def address(array: np.ndarray) -> int:
            return array.__array_interface__["data"][0]

        return MappedTables(
            tokens=np.array([address(tokens) for tokens in self._bins], np.uint64),
            token_bytes=np.array([len(tokens) for tokens in self._bins], np.int64),
            lengths=np.array([address(index.lengths) for index in self._indices], np.uint64),
            pointers=np.array([address(index.pointers) for index in self._indices], np.uint64),
            documents=np.array([address(index.documents) for index in self._indices], np.uint64),
            first_sequence=np.array(self._first_sequence, np.int64),
            first_document=np.array(self._first_document, np.int64),
            item_size=self.dtype.itemsize,
        )


class Side(IndexedFiles):
    """One side of a split (train, validation, test): sequences with their ids."""

    def __init__(self, name: str, prefixes: Sequence[Path | str]) -> None:
        super().__init__(prefixes)
        self.name = name
        self._cached: tuple[tuple[int, int], pa.Table] | None = None

    def tokens(self, sequence: int) -> np.ndarray:
        """As `IndexedFiles.tokens`. Raises UserError for a token that is not one of the 33."""
        found = super().tokens(sequence)
        if len(found) and not 0 <= int(found.min()) <= int(found.max()) < len(TOKENS):
            raise UserError(
                UNKNOWN_TOKEN.format(sequence), where=f"{self.prefixes[0].parent} ({self.name})", fix=VERIFY
            )
        return found

    def ids(self, sequence: int) -> tuple[str, str]:
        """(id, cluster id) of a sequence, as in ("UniRef90_P12345", "UniRef50_Q9XYZ1"). Neighbours are cached."""
        file, local = self._locate(self._first_sequence, sequence)
        first, rows = self._row_group(file, local)
        row = rows.slice(local - first, 1).to_pydict()
        return row["id"][0], row["cluster_id"][0]

    def keys(self, sequences: np.ndarray) -> np.ndarray:
        """Keys (see core.ids) of sequences int64[n]: uint64[n]. The first call reads all ids of the side."""
        return self._all_keys[sequences]

    @cached_property
    def _all_keys(self) -> np.ndarray:
        keys = np.empty(self.sequences, np.uint64)
        done = 0
        for file in range(len(self.prefixes)):
            with self._open_ids(file) as table:
                for batch in table.iter_batches(columns=["id"]):
                    ids = batch.column("id")
                    _member_keys(*string_buffers(ids), keys[done : done + len(ids)])
                    done += len(ids)
        return keys

    def _open_ids(self, file: int) -> parquet.File:
        """The ids of a shard. Raises UserError unless each of its sequences has one."""
        return open_ids(self.prefixes[file], len(self._lengths[file]))

    def _row_group(self, file: int, local: int) -> tuple[int, pa.Table]:
        """(first row, rows) of the row group of a shard's ids that holds row `local`."""
        if self._cached is not None:
            (cached_file, first), rows = self._cached
            if cached_file == file and first <= local < first + len(rows):
                return first, rows
        with self._open_ids(file) as table:
            first = 0
            for group in range(table.num_row_groups):
                count = table.metadata.row_group(group).num_rows
                if local < first + count:
                    self._cached = (file, first), table.read_row_group(group)
                    return first, self._cached[1]
                first += count
        raise AssertionError((file, local))


def open_ids(prefix: Path, sequences: int) -> parquet.File:
    """Open the ids.parquet of a shard. Raises UserError unless it has a row for each of its `sequences`."""
    path = prefix.with_name(prefix.name + ".ids.parquet")
    table = open_parquet(path, "shard")
    if table.metadata.num_rows != sequences:
        raise UserError(f"{table.metadata.num_rows} ids for {sequences} sequences", where=path, fix=REBUILD)
    return table


class Shards:
    """The shards of a run: sides `train`, `validation` and perhaps `test`, and the `manifest`."""

    def __init__(self, directory: Path, manifest: dict[str, Any]) -> None:
        self.directory, self.manifest = directory, manifest
        sides = {
            name: Side(name, [directory / shard for shard in facts["shards"]])
            for name, facts in manifest["sides"].items()
        }
        self._train = sides.get("train")
        self.validation: Side = sides["validation"]
        self.test: Side | None = sides.get("test")
        self.sides: dict[str, Side] = sides
        for name, side in sides.items():
            facts = manifest["sides"][name]
            for what, found in (("documents", side.documents), ("sequences", side.sequences)):
                if found != facts[what]:
                    raise UserError(
                        f"the {name} shards hold {found} {what}, the manifest says {facts[what]}",
                        where=directory, fix=REBUILD,
                    )  # fmt: skip

    @property
    def train(self) -> Side:
        """The train side. Raises UserError for shards of held-out sequences alone."""
        if self._train is None:
            raise UserError("no train shards in it", where=self.directory, fix="give the shards of a whole run")
        return self._train


def open_shards(directory: Path | str) -> Shards:
    """Open a directory of shards and check sizes and indices (`unirefine verify` checks hashes too).

    Raises UserError with the name of a file that is missing, truncated or does not fit.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    for file in manifest["files"]:
        check_size(directory / file["name"], file["bytes"])
    return Shards(directory, manifest)


def _advised(tokens: np.ndarray) -> np.ndarray:
    """A mapped .bin, advised to be read at random: no read-ahead of 128 kB for a sequence of 350 bytes."""
    mapped = tokens.base
    while mapped is not None and not isinstance(mapped, mmap.mmap):
        mapped = mapped.base if isinstance(mapped, np.ndarray) else None
    if mapped is not None:
        mapped.madvise(mmap.MADV_RANDOM)
    return tokens


@numba.njit(cache=True)
def _member_keys(raw: np.ndarray, offsets: np.ndarray, keys: np.ndarray) -> None:
    """Keys of ids that lie end to end in `raw`, without their prefix: of `UniRef50_P12345` the key of `P12345`."""
    for i in range(len(keys)):
        start, end = offsets[i], offsets[i + 1]
        if end - start > 9 and raw[start + 8] == 95:  # "_"
            uniref = True
            for j in range(6):
                uniref = uniref and raw[start + j] == _UNIREF[j]
            start += 9 if uniref else 0
        keys[i] = pack(raw, start, end)
