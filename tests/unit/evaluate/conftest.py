"""Shards of random proteins."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.core.alphabet import TOKENS
from unirefine.dataset.indexed import write_index

Documents = list[list[np.ndarray]]


@dataclass
class Written:
    """A directory of shards, and its sequences by document (cluster)."""

    directory: Path
    train: Documents
    validation: Documents


def write_side(directory: Path, prefix: str, documents: Documents) -> None:
    """One shard with ids `UniRef90_<prefix><document>M<member>`."""
    sequences = [sequence for members in documents for sequence in members]
    (directory / f"{prefix}.bin").write_bytes(b"".join(sequence.tobytes() for sequence in sequences))
    offsets = np.cumsum([0, *(len(members) for members in documents)])
    write_index(directory / f"{prefix}.idx", np.array([len(s) for s in sequences], np.int32), offsets)
    rows = [
        (f"UniRef90_{prefix}{d}M{m}", cluster_id(d)) for d, members in enumerate(documents) for m in range(len(members))
    ]
    ids, clusters = zip(*rows, strict=True)
    pq.write_table(pa.table({"id": list(ids), "cluster_id": list(clusters)}), directory / f"{prefix}.ids.parquet")


def cluster_id(document: int) -> str:
    """`UniRef50_` and an accession."""
    return f"UniRef50_P{document:05d}"


def write_shards(directory: Path, train: list[Documents], validation: Documents) -> Written:
    """Write a directory for `open_shards`. train: documents of each train shard."""
    directory.mkdir(parents=True, exist_ok=True)
    sides = {}
    for name, parts in (("train", train), ("validation", [validation])):
        prefixes = [f"{name}-{i:03d}-of-{len(parts):03d}" for i in range(len(parts))]
        for prefix, documents in zip(prefixes, parts, strict=True):
            write_side(directory, prefix, documents)
        every = [members for documents in parts for members in documents]
        sides[name] = {"documents": len(every), "sequences": sum(map(len, every)), "shards": prefixes}
    manifest = {"format": "unirefine-shards", "version": 1, "alphabet": list(TOKENS), "sides": sides, "files": []}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return Written(directory, [members for documents in train for members in documents], validation)


def random_documents(rng: np.random.Generator, count: int, longest: int = 90) -> Documents:
    """Clusters of 1 to 4 proteins."""
    return [
        [rng.integers(4, 27, int(rng.integers(1, longest))).astype(np.uint8) for _ in range(int(rng.integers(1, 5)))]
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Written:
    """60 train clusters in two shards, 25 validation clusters."""
    rng = np.random.default_rng(3)
    train = [random_documents(rng, 35), random_documents(rng, 25)]
    return write_shards(tmp_path_factory.mktemp("shards"), train, random_documents(rng, 25))


@pytest.fixture
def shard_writer(tmp_path):
    """Function(train shards, validation=one short protein) -> Written, in a directory of its own."""

    def write(train: list[Documents], validation: Documents | None = None) -> Written:
        return write_shards(tmp_path / "written", train, validation or [[np.array([5, 6, 7], np.uint8)]])

    return write
