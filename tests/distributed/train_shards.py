"""Shards of made-up proteins with a little to learn: the members of a cluster share a composition."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unirefine.core.alphabet import FIRST_AMINO_ACID, TOKENS
from unirefine.dataset.indexed import write_index
from unirefine.files.atomic import write_json
from unirefine.files.hashes import sha256_file


def made_up(clusters: int, seed: int = 0) -> list:
    """Documents for `write_documents`."""
    rng = np.random.default_rng(seed)
    documents = []
    for cluster in range(clusters):
        mix, members = rng.dirichlet(np.full(20, 0.3)), []
        for member in range(rng.integers(1, 5)):
            residues = rng.choice(20, rng.integers(20, 160), p=mix) + FIRST_AMINO_ACID
            members.append((f"P{cluster:05d}{member}", residues.astype(np.uint8)))
        documents.append((f"C{cluster:05d}", members))
    return documents


def write_documents(directory: Path, documents: list, validation: int) -> Path:
    """Write train and validation shards as `unirefine shard build` does.

    documents: (cluster id, [(member id, residues uint8[length]), ...]); the first `validation` clusters validate.
    """
    directory.mkdir(parents=True)
    sides = {
        "train": _write_side(directory, "train-000-of-001", documents[validation:]),
        "validation": _write_side(directory, "validation", [(name, m[:1]) for name, m in documents[:validation]]),
    }
    files = [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in sorted(directory.iterdir())]
    manifest = {
        "format": "unirefine-shards", "version": 1, "alphabet": list(TOKENS), "dtype": "uint8",
        "sides": sides, "files": files, "config": {}, "config_sha256": "", "release": {}, "versions": {},
    }  # fmt: skip
    write_json(directory / "manifest.json", manifest)
    return directory


def _write_side(directory: Path, name: str, documents: list) -> dict:
    sequences = [residues for _, members in documents for _, residues in members]
    (directory / f"{name}.bin").write_bytes(b"".join(residues.tobytes() for residues in sequences))
    lengths = np.array([len(residues) for residues in sequences], np.int32)
    offsets = np.cumsum([0] + [len(members) for _, members in documents])
    write_index(directory / f"{name}.idx", lengths, offsets.astype(np.int64))
    rows = [(f"UniRef90_{member}", f"UniRef50_{cluster}") for cluster, members in documents for member, _ in members]
    table = pa.table({"id": [row[0] for row in rows], "cluster_id": [row[1] for row in rows]})
    pq.write_table(table, directory / f"{name}.ids.parquet")
    return {"shards": [name], "documents": len(documents), "sequences": len(sequences), "tokens": int(lengths.sum())}
