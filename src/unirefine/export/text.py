"""FASTA, WebDataset and MDS: bytes that Arrow puts together column by column.

No Python runs for a single sequence, and Arrow works without the GIL, so threads write files side by side.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirefine.export.blocks import Block
from unirefine.export.plan import File

_NOT_PLAIN = r'[\x00-\x1f"\\]'
"""What JSON writes as an escape, beside letters that are no ASCII."""
_TAR_BLOCK = 512
_PADDING = pa.array([bytes(count) for count in range(_TAR_BLOCK)], pa.binary())
MDS_COLUMNS = ("cluster_id", "id", "sequence")
"""In the order of their names, as the format wants it."""
MDS_CONFIG: dict[str, Any] = {
    "column_encodings": ["str"] * len(MDS_COLUMNS),
    "column_names": list(MDS_COLUMNS),
    "column_sizes": [None] * len(MDS_COLUMNS),
    "compression": None,
    "format": "mds",
    "hashes": ["sha256"],
    "size_limit": None,
    "version": 2,
}


def write_fasta(_file: File, path: Path, blocks: Iterable[Block]) -> None:
    """`>ID cluster=CLUSTER` and a line of residues for each sequence."""
    with path.open("wb") as handle:
        for block in blocks:
            _append(handle, ">", block.ids, " cluster=", block.clusters, "\n", block.letters, "\n")


def write_clusters(_file: File, path: Path, blocks: Iterable[Block]) -> None:
    """The table of MMseqs2's `_cluster.tsv`: cluster, tab, member."""
    with path.open("wb") as handle:
        for block in blocks:
            _append(handle, block.clusters, "\t", block.ids, "\n")


def write_webdataset(file: File, path: Path, blocks: Iterable[Block]) -> None:
    """A tar with `<number>.json` for each sequence: `id`, `cluster_id`, `sequence`. number: within the side."""
    number = file.first
    with path.open("wb") as handle:
        for block in blocks:
            texts = _joined(
                '{"id": "', _escaped(block.ids), '", "cluster_id": "', _escaped(block.clusters),
                '", "sequence": "', block.letters, '"}',
            )  # fmt: skip
            sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
            heads = _tar_headers(np.arange(number, number + len(sizes)), sizes)
            _append(handle, heads, texts, _PADDING.take(pa.array(-sizes % _TAR_BLOCK)))
            number += len(sizes)
        handle.write(bytes(2 * _TAR_BLOCK))


def write_mds(file: File, path: Path, blocks: Iterable[Block]) -> None:
    """An uncompressed shard of MosaicML's format, version 2.

    uint32 n; uint32[n + 1] where each sample starts, and the end; the columns as JSON; the samples, each uint32[3]
    lengths and then cluster_id, id, sequence.
    """
    config = json.dumps(MDS_CONFIG, sort_keys=True).encode()
    count = file.sequences
    head = 4 + 4 * (count + 1)
    offsets = np.empty(count + 1, np.int64)
    offsets[0] = head + len(config)
    done = 0
    with path.open("wb") as handle:
        handle.write(bytes(head))
        handle.write(config)
        for block in blocks:
            columns = (block.clusters, block.ids, block.letters)
            sizes = np.stack([pc.binary_length(column).to_numpy(zero_copy_only=False) for column in columns], axis=1)
            ends = offsets[done] + np.cumsum(sizes.sum(axis=1, dtype=np.int64) + 4 * len(columns))
            offsets[done + 1 : done + 1 + len(ends)] = ends
            done += len(ends)
            _append(handle, _fixed(sizes.astype("<u4")), *columns)
        assert done == count and offsets[-1] < 1 << 32, (file.name, done, count)
        handle.seek(0)
        handle.write(np.uint32(count).tobytes() + offsets.astype("<u4").tobytes())


def mds_index(shards: Iterable[tuple[File, dict[str, Any]]]) -> bytes:
    """index.json of a side. shards: its files, each with `{name, bytes, sha256}`."""
    listed = [
        {
            **MDS_CONFIG,
            "raw_data": {
                "basename": Path(file.name).name,
                "bytes": record["bytes"],
                "hashes": {"sha256": record["sha256"]},
            },
            "samples": file.sequences,
            "zip_data": None,
        }
        for file, record in shards
    ]
    return json.dumps({"shards": listed, "version": 2}, sort_keys=True).encode() + b"\n"


def _joined(*parts: pa.Array | str) -> pa.Array:
    """Strings put together row by row."""
    return pc.binary_join_element_wise(*parts, "")


def _append(handle: IO[bytes], *parts: pa.Array | str) -> None:
    """Write the parts of each row, row by row."""
    binary = [part.encode() if isinstance(part, str) else part.cast(pa.binary()) for part in parts]
    rows = pc.binary_join_element_wise(*binary, b"")
    _validity, offsets, data = rows.buffers()
    end = int(np.frombuffer(offsets, np.int32)[len(rows)])
    handle.write(memoryview(data)[:end])


def _escaped(names: pa.StringArray) -> pa.Array:
    """Strings as they stand between the quotes of JSON."""
    if not pc.any(pc.match_substring_regex(names, _NOT_PLAIN)).as_py():
        return names
    return pa.array([json.dumps(name, ensure_ascii=False)[1:-1] for name in names.to_pylist()], pa.string())


def _fixed(rows: np.ndarray) -> pa.Array:
    """The bytes of each row of an array [n, k] as binary[n]."""
    width = rows.shape[1] * rows.itemsize
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(width)
    data = np.ascontiguousarray(rows)
    return pa.BinaryArray.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _tar_headers(numbers: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """Headers (ustar) of files `<ten digits>.json`: binary[n] of 512 bytes. numbers, sizes: int64[n].

    No owner and no date: the bytes depend on the content alone.
    """
    heads = np.zeros((len(numbers), _TAR_BLOCK), np.uint8)

    def text(at: int, value: bytes) -> None:
        heads[:, at : at + len(value)] = np.frombuffer(value, np.uint8)

    def digits(at: int, width: int, values: np.ndarray, base: int) -> None:
        powers = base ** np.arange(width - 1, -1, -1, dtype=np.int64)
        heads[:, at : at + width] = values[:, None] // powers % base + ord("0")

    digits(0, 10, numbers, 10)
    text(10, b".json")
    text(100, b"0000644\0" + b"0000000\0" + b"0000000\0")
    digits(124, 11, sizes, 8)
    text(136, b"00000000000\0" + b" " * 8 + b"0")  # no date; the checksum counts as spaces
    text(257, b"ustar\0" + b"00")
    digits(148, 6, heads.sum(axis=1, dtype=np.int64), 8)
    heads[:, 154] = 0
    return _fixed(heads)
