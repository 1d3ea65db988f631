"""A small run, as the stages before `shard` write it, and the expected shards, in plain Python."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import key_of

LETTERS = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWYXBUZOJ", np.uint8)


@dataclass
class Run:
    """Paths of the inputs, and the truth: clusters as (key, id, side, representative sequence, members)."""

    root: Path
    clusters: list[dict] = field(default_factory=list)

    @property
    def inputs(self) -> dict[str, Path]:
        """Arguments of unirefine.shard.run.run."""
        return {
            "records": self.root / "records",
            "clusters": self.root / "cluster",
            "split": self.root / "split.parquet",
            "release": self.root / "release.json",
        }

    def expected(self, side: int, seed: int, representatives: bool) -> list[tuple[str, list[tuple[str, str]]]]:
        """Documents of a side in shard order: (cluster id, [(id, sequence)])."""
        chosen = [cluster for cluster in self.clusters if cluster["side"] == side]
        chosen.sort(key=lambda cluster: int(keyed_hash(seed, np.array([cluster["key"]], np.uint64))[0]))
        return [
            (cluster["id"], [cluster["representative"]] if representatives else cluster["members"])
            for cluster in chosen
        ]


def write_records(directory: Path, rows: list[tuple[str, str]], parts: int, string: pa.DataType) -> None:
    """Record parts of one level from (id, sequence) rows."""
    directory.mkdir(parents=True)
    for part in range(parts):
        piece = rows[len(rows) * part // parts : len(rows) * (part + 1) // parts]
        table = pa.table(
            {
                "id": pa.array([name for name, _ in piece], pa.string()),
                "sequence": pa.array([sequence for _, sequence in piece], string),
            }
        )
        pq.write_table(table, directory / f"records-{part:03d}-of-{parts:03d}.parquet", compression="zstd")


def make_run(
    root: Path, *, clusters: int = 300, level: str = "uniref50", string: pa.DataType | None = None, seed: int = 0
) -> Run:
    """A run of random proteins; some records of both levels belong to no cluster (they were removed)."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    run = Run(root)
    prefixes = ("UniRef50_", "UniRef90_") if level == "uniref50" else ("", "")

    def protein() -> str:
        return LETTERS[rng.integers(0, len(LETTERS), int(rng.integers(1, 400)))].tobytes().decode()

    uniref50: list[tuple[str, str]] = []
    uniref90: list[tuple[str, str]] = []
    names = [
        f"A{rng.integers(0, 10)}{a}{b}{c}{d}" for a in "ABCD" for b in "XYZ0" for c in "KLMN789" for d in range(10)
    ]
    names = [str(name) for name in rng.permutation(names)]
    if level == "uniref90":  # a custom FASTA: ids that are no accessions
        names = [f"lab|{name}|{'x' * int(rng.integers(0, 30))}" for name in names]
    for name in sorted(names[:clusters]):
        members = [(prefixes[1] + name, protein())]
        members += [(f"{prefixes[1]}{name}-{i + 1}", protein()) for i in range(int(rng.geometric(0.4)) - 1)]
        side = int(rng.choice([0, 0, 0, 0, 0, 1, 2, 255]))
        representative = (prefixes[0] + name, protein() if level == "uniref50" else members[0][1])
        key = key_of(name)
        members.sort(key=lambda member: key_of(member[0].removeprefix(prefixes[1])))
        run.clusters.append(
            {"key": key, "id": prefixes[0] + name, "side": side, "representative": representative, "members": members}
        )
        uniref50.append(representative)
        uniref90.extend(members)
    uniref50 += [(f"UniRef50_{name}", protein()) for name in names[clusters : clusters + 20]]
    uniref90 += [(f"{prefixes[1]}{name}", protein()) for name in names[clusters : clusters + 40]]
    uniref50, uniref90 = ([rows[i] for i in rng.permutation(len(rows))] for rows in (uniref50, uniref90))
    string = string or pa.string()
    write_records(root / "records" / "uniref90", uniref90, 3, string)
    if level == "uniref50":
        write_records(root / "records" / "uniref50", uniref50, 2, string)

    run.clusters.sort(key=lambda cluster: cluster["key"])
    row50 = {name: row for row, (name, _) in enumerate(uniref50 if level == "uniref50" else uniref90)}
    row90 = {name: row for row, (name, _) in enumerate(uniref90)}
    table = pa.table(
        {
            "key": pa.array([cluster["key"] for cluster in run.clusters], pa.uint64()),
            "row": pa.array([row50[cluster["representative"][0]] for cluster in run.clusters], pa.uint32()),
            "length": pa.array([len(cluster["representative"][1]) for cluster in run.clusters], pa.int32()),
            "size": pa.array([len(cluster["members"]) for cluster in run.clusters], pa.uint32()),
        }
    )
    (root / "cluster").mkdir()
    pq.write_table(
        table.replace_schema_metadata({"representative_level": level}), root / "cluster" / "clusters.parquet"
    )
    members = [(i, name, sequence) for i, cluster in enumerate(run.clusters) for name, sequence in cluster["members"]]
    table = pa.table(
        {
            "cluster": pa.array([i for i, _, _ in members], pa.uint32()),
            "row": pa.array([row90[name] for _, name, _ in members], pa.uint32()),
            "key": pa.array([key_of(name.removeprefix(prefixes[1])) for _, name, _ in members], pa.uint64()),
            "length": pa.array([len(sequence) for _, _, sequence in members], pa.int32()),
        }
    )
    pq.write_table(table, root / "cluster" / "membership.parquet")
    side = pa.array([cluster["side"] for cluster in run.clusters], pa.uint8())
    pq.write_table(pa.table({"side": side}), root / "split.parquet")
    release = {
        "source": "current", "release": "2026_03", "date": "2026-06-11",
        "files": [{"file": "uniref50.xml.gz", "size": 1, "md5": "x", "sha256": "y", "date": "2026-07-01"}],
    }  # fmt: skip
    (root / "release.json").write_text(json.dumps(release))
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    """A UniRef run."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(name="make_run")
def make_run_fixture():
    """The function that makes a run, for tests that need one of their own."""
    return make_run
