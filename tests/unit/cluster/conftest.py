"""Records, members files and curate's output on disk, for the cluster stage."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.core.ids import key_of
from unirefine.core.removed import SCHEMA

RECORD = pa.schema(
    [
        ("key", pa.uint64()),
        ("id", pa.string()),
        ("taxon_id", pa.int32()),
        ("rep_taxon_id", pa.int32()),
        ("member_count", pa.int32()),
        ("listed_members", pa.int32()),
        ("representative", pa.string()),
        ("length", pa.int32()),
        ("given_side", pa.uint8()),
        ("sequence", pa.string()),
    ]
)
CLAIM = pa.schema([("cluster_key", pa.uint64()), ("member_key", pa.uint64())])
KEPT = pa.schema([("row", pa.uint32()), ("key", pa.uint64()), ("length", pa.int32())])
PREFIX = {"uniref50": "UniRef50_", "uniref90": "UniRef90_"}


class Run:
    """Directories `records` and `curate` of one run, written piece by piece."""

    def __init__(self, directory: Path, *, parts: int = 2, prefix: bool = True) -> None:
        self.directory, self.parts, self.prefix = directory, parts, prefix
        self.counts: dict[str, dict] = {}
        self.dropped: list[dict] = []

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """records, curate, cluster."""
        return self.directory / "records", self.directory / "curate", self.directory / "cluster"

    def level(
        self,
        level: str,
        ids: Sequence[str],
        *,
        dropped: Iterable[str] = (),
        counts=None,
        listed=None,
        sequences=None,
        sides=None,
    ) -> None:
        """Records of a level in this order, all kept by curate but `dropped`."""
        dropped = set(dropped)
        sequences = sequences or ["M" * (5 + place % 90) for place in range(len(ids))]
        rows = [
            {
                "key": key_of(name),
                "id": (PREFIX[level] if self.prefix else "") + name,
                "member_count": counts[place] if counts else None,
                "listed_members": listed[place] if listed else None,
                "length": len(sequences[place]),
                "given_side": sides[place] if sides else None,
                "sequence": sequences[place],
            }
            for place, name in enumerate(ids)
        ]
        self._parts(level, "records", pa.Table.from_pylist(rows, schema=RECORD))
        kept = [{"row": place} | row for place, row in enumerate(rows) if ids[place] not in dropped]
        self.paths[1].mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(kept, schema=KEPT), self.paths[1] / f"{level}.parquet")
        self.dropped += [
            {"level": level, "id": PREFIX[level] + name, "reason": "purge_list", "evidence": ""}
            for name in ids
            if name in dropped
        ]
        pq.write_table(pa.Table.from_pylist(self.dropped, schema=SCHEMA), self.paths[1] / "removed.parquet")
        removed = {"purge_list": len(rows) - len(kept)} if len(kept) < len(rows) else {}
        self.counts[level] = {"in": len(rows), "kept": len(kept), "removed": removed}
        text = json.dumps({"stage": "curate", "levels": self.counts})
        (self.paths[1] / "counts.json").write_text(text)

    def members(self, level: str, pairs: Iterable[tuple[str, str]]) -> None:
        """The members files of a level: (entry, named) pairs."""
        pairs = [(key_of(entry), key_of(named)) for entry, named in pairs]
        columns = np.array(pairs, np.uint64).reshape(-1, 2).T
        self._parts(level, "members", pa.table([pa.array(column) for column in columns], schema=CLAIM))

    def _parts(self, level: str, kind: str, table: pa.Table) -> None:
        folder = self.paths[0] / level
        folder.mkdir(parents=True, exist_ok=True)
        cuts = [table.num_rows * part // self.parts for part in range(self.parts + 1)]
        for part in range(self.parts):
            path = folder / f"{kind}-{part:03d}-of-{self.parts:03d}.parquet"
            pq.write_table(table.slice(cuts[part], cuts[part + 1] - cuts[part]), path)

    def read(self, name: str) -> list[dict]:
        """Rows of a table that the stage wrote."""
        return pq.read_table(self.paths[2] / name).to_pylist()


@pytest.fixture
def run(tmp_path) -> Run:
    """A run in a fresh directory."""
    return Run(tmp_path)


@pytest.fixture(scope="session")
def new_run(tmp_path_factory):
    """Function that makes a run in a fresh directory: `new_run(parts=3)`."""
    return lambda **options: Run(tmp_path_factory.mktemp("run"), **options)
