"""Shards of the held-out sides of a data set, without train: to evaluate models on somebody's validation set."""

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.config import Shard
from unirefine.core import parquet
from unirefine.core.alphabet import BYTE_TO_TOKEN, TOKENS, UNK
from unirefine.core.levels import SIDES, TEST, VALIDATION
from unirefine.core.published import read
from unirefine.core.tables import string_buffers
from unirefine.dataset.indexed import write_index
from unirefine.dataset.manifest import FORMAT, FORMAT_VERSION
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory, temporary_directory, write_json
from unirefine.files.code import versions
from unirefine.files.hashes import sha256_file
from unirefine.files.names import shard_files
from unirefine.files.written import delete_stale
from unirefine.shard.assemble import IDS_SCHEMA, WrittenShard
from unirefine.shard.run import sides_of

_FIX = "correct the data set; a sequence has letters, and one UniRef50 id of its own"


class _Side:
    """The three files of one side, written batch by batch."""

    def __init__(self, name: str, directory: Path, stack: ExitStack) -> None:
        self.name = name
        self.paths = [directory / file for file in shard_files(name)]
        self._tokens = stack.enter_context(self.paths[0].open("wb"))
        self._ids = stack.enter_context(
            parquet.Writer(self.paths[2], IDS_SCHEMA, compression="zstd", use_dictionary=False)
        )
        self.digest, self.unknown = hashlib.sha256(), 0
        self.lengths: list[np.ndarray] = []

    def add(self, ids: pa.Array, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Append n sequences, each a cluster of its own."""
        self.unknown += int(np.count_nonzero(tokens == UNK))
        self.digest.update(tokens)
        self._tokens.write(tokens)
        self.lengths.append(lengths)
        self._ids.write_table(pa.table([ids, ids], schema=IDS_SCHEMA), row_group_size=len(ids))

    def finish(self) -> WrittenShard:
        """Write the index of the closed files."""
        lengths = np.concatenate(self.lengths)
        write_index(self.paths[1], lengths, np.arange(len(lengths) + 1))
        digests = [self.digest.hexdigest(), sha256_file(self.paths[1]), sha256_file(self.paths[2])]
        files = [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(self.paths, digests, strict=True)
        ]
        return WrittenShard(
            self.name, self.name, len(lengths), len(lengths), int(lengths.sum(dtype=np.int64)), int(lengths.max()),
            self.unknown, files,
        )  # fmt: skip


def run(dataset: Path, output: Path) -> dict[str, Any]:
    """Write the shards and manifest.json to `output`; return the manifest.

    dataset: a directory with `validation/*.parquet` and maybe `test/*.parquet`, in the layout of core.published. The
    sequences keep their order, and each is a document under its UniRef50 id. Raises UserError for a sequence that is
    empty or has other characters than letters, and for an id that is there twice.
    """
    output.mkdir(parents=True, exist_ok=True)
    with temporary_directory(output / "build") as work:
        sides: dict[int, _Side] = {}
        seen: set[str] = set()
        with ExitStack() as stack:
            for rows in read(dataset, sequences=True, sides=(VALIDATION, TEST)):
                if rows.side not in sides:
                    sides[rows.side] = _Side(SIDES[rows.side], work, stack)
                assert rows.sequences is not None
                names = rows.clusters.to_pylist()
                for at, name in enumerate(names):
                    if name in seen:
                        raise UserError(f"{name[:60]} is there twice", where=rows.name(at), fix=_FIX)
                    seen.add(name)
                sides[rows.side].add(rows.clusters, *_encoded(rows))
        if not sides:
            raise UserError("no rows in its validation files", where=dataset, fix=_FIX)
        written = [side.finish() for _number, side in sorted(sides.items())]
        (output / "manifest.json").unlink(missing_ok=True)
        names = [file["name"] for shard in written for file in shard.files]
        for name in names:
            (work / name).replace(output / name)
        delete_stale(output, "shard", names)
        fsync_directory(output)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "alphabet": list(TOKENS),
        "dtype": "uint8",
        "sides": sides_of(written),
        "files": [file for shard in written for file in shard.files],
        "config": Shard().model_dump(mode="json"),
        "release": {"source": "parquet", "release": None, "files": []},
        "versions": versions("numpy", "numba", "pyarrow"),
    }
    write_json(output / "manifest.json", manifest)
    return manifest


def _encoded(rows) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, uint8, of the sequences of a batch end to end, and the length of each, int32[n]."""
    raw, ends = string_buffers(rows.sequences)
    lengths = np.diff(ends).astype(np.int32)
    letters = raw[ends[0] : ends[-1]]
    wrong = ~(((letters >= 65) & (letters <= 90)) | ((letters >= 97) & (letters <= 122)) | (letters == 42))
    if wrong.any() or not lengths.all():
        at = int(np.argmin(lengths))
        if lengths.all():
            at = int(np.searchsorted(ends - ends[0], int(np.argmax(wrong)), side="right")) - 1
        what = "an empty sequence" if not lengths[at] else "a sequence with other characters than letters"
        raise UserError(what, where=rows.name(at), fix=_FIX)
    upper = np.where((letters >= 97), letters - 32, letters).astype(np.uint8)
    return BYTE_TO_TOKEN[upper].astype(np.uint8), lengths
