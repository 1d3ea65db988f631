"""A small release with planted similarities, as the stages before write it, and one finished decontamination of it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.config import Decontaminate
from unirefine.core.ids import key_of
from unirefine.decontaminate import audit, prepare, remove, search

PUBLISHED = Decontaminate(parts=2, level="representatives")
"""The published settings, in two parts."""
LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)
TRAIN, VALIDATION, TEST = 0, 1, 2


def random_protein(random: np.random.Generator, length: int) -> str:
    """Independent uniform residues."""
    return random.choice(LETTERS, length).tobytes().decode()


def mutated(random: np.random.Generator, sequence: str, identity: float) -> str:
    """A copy that keeps exactly round(identity x length) residues; the others differ."""
    raw = np.frombuffer(sequence.encode(), np.uint8).copy()
    for position in random.permutation(len(raw))[: len(raw) - round(identity * len(raw))]:
        raw[position] = random.choice(LETTERS[raw[position] != LETTERS])
    return raw.tobytes().decode()


@dataclass
class World:
    """Clusters by name; `write` turns them into files."""

    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    representatives: dict[str, str] = field(default_factory=dict)
    members: dict[str, dict[str, str]] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)

    def add(self, side: int, sequence: str | None = None, members: tuple[str, ...] = (), *, seed: bool = True) -> str:
        """Add a cluster; its members are the representative itself (unless not `seed`) and the sequences given."""
        name = f"P{len(self.representatives):05d}"
        sequence = sequence or random_protein(self.random, int(self.random.integers(80, 300)))
        self.representatives[name] = sequence
        first = {name: sequence} if seed else {}
        self.members[name] = first | {
            f"Q{len(self.representatives):03d}{i:02d}": text for i, text in enumerate(members)
        }
        self.sides[name] = side
        return name

    def index(self, name: str) -> int:
        """Cluster index."""
        return sorted(self.representatives, key=key_of).index(name)

    def write(self, directory: Path, parts: int = 2) -> Path:
        """Write records, cluster and split under `directory`; record order has nothing to do with cluster order."""
        order = sorted(self.representatives, key=key_of)
        shuffled = [order[i] for i in self.random.permutation(len(order))]
        rows50 = _write_records(directory, "uniref50", {n: self.representatives[n] for n in shuffled}, parts)
        flat = {member: text for name in shuffled for member, text in self.members[name].items()}
        rows90 = _write_records(directory, "uniref90", flat, parts)
        clusters = pa.table(
            {
                "key": np.array([key_of(name) for name in order], np.uint64),
                "row": np.array([rows50[name] for name in order], np.uint32),
                "length": np.array([len(self.representatives[name]) for name in order], np.int32),
                "size": np.array([len(self.members[name]) for name in order], np.uint32),
            }
        ).replace_schema_metadata({"representative_level": "uniref50"})
        (directory / "cluster").mkdir()
        pq.write_table(clusters, directory / "cluster" / "clusters.parquet")
        membership = [
            (cluster, rows90[member], key_of(member), len(self.members[name][member]))
            for cluster, name in enumerate(order)
            for member in sorted(self.members[name], key=key_of)
        ]
        pl.DataFrame(
            membership,
            schema={"cluster": pl.UInt32, "row": pl.UInt32, "key": pl.UInt64, "length": pl.Int32},
            orient="row",
        ).write_parquet(directory / "cluster" / "membership.parquet")
        (directory / "split").mkdir()
        side = np.array([self.sides[name] for name in order], np.uint8)
        pl.DataFrame({"side": side}).write_parquet(directory / "split" / "split.parquet")
        return directory


def _write_records(directory: Path, level: str, sequences: dict[str, str], parts: int) -> dict[str, int]:
    (directory / "records" / level).mkdir(parents=True)
    names = list(sequences)
    for part, chosen in enumerate(np.array_split(np.arange(len(names)), parts)):
        pl.DataFrame(
            {
                "key": pl.Series([key_of(names[i]) for i in chosen], dtype=pl.UInt64),
                "id": [f"{level.replace('uniref', 'UniRef')}_{names[i]}" for i in chosen],
                "sequence": [sequences[names[i]] for i in chosen],
            }
        ).write_parquet(directory / "records" / level / f"records-{part:03d}-of-{parts:03d}.parquet")
    return {name: row for row, name in enumerate(names)}


@dataclass
class Stage:
    """A world on disk and the steps run on it."""

    directory: Path
    names: dict[str, str]
    """Planted clusters: role -> name."""
    world: World

    def path(self, *parts: str) -> Path:
        """A path below the decontaminate directory."""
        return self.directory.joinpath("decontaminate", *parts)

    @property
    def inputs(self) -> dict[str, Path]:
        """Directories of the stages before."""
        names = {"records": "records", "clusters": "cluster", "split": "split"}
        return {name: self.directory / stage for name, stage in names.items()}

    def prepare(self, config: Decontaminate):
        """Run prepare."""
        return prepare.run(config, **self.inputs, output=self.path())

    def search(self, config: Decontaminate, parts: range | None = None, threads: int = 1):
        """Run search on all parts, or on some."""
        return [
            search.run(config, directory=self.path(), part=part, threads=threads)
            for part in parts or range(config.parts)
        ]

    def remove(self, config: Decontaminate):
        """Run remove."""
        return remove.run(config, **self.inputs, directory=self.path())

    def audit(self, config: Decontaminate):
        """Run audit."""
        return audit.run(config, **self.inputs, directory=self.path())

    def side(self, role: str) -> int:
        """Final side of a planted cluster."""
        return pl.read_parquet(self.path("split.parquet"))["side"][self.world.index(self.names[role])]


def planted_world() -> tuple[World, dict[str, str]]:
    """60 unrelated clusters and the planted ones."""
    world = World()
    held_out = [world.add(VALIDATION, random_protein(world.random, 200)) for _ in range(6)]
    tests = [world.add(TEST, random_protein(world.random, 200)) for _ in range(2)]
    for i in range(50):
        world.add(TRAIN, members=(random_protein(world.random, 100),) * (i % 3))
    of = world.representatives
    names = {
        "copy80": world.add(TRAIN, mutated(world.random, of[held_out[0]], 0.8), (random_protein(world.random, 90),)),
        "copy45": world.add(TRAIN, mutated(world.random, of[held_out[0]], 0.45)),
        "copy20": world.add(TRAIN, mutated(world.random, of[held_out[1]], 0.2)),
        "half": world.add(TRAIN, of[held_out[2]][:100] + random_protein(world.random, 100)),
        "test70": world.add(TRAIN, mutated(world.random, of[tests[0]], 0.7)),
        "member": world.add(TRAIN, members=(mutated(world.random, of[held_out[3]], 0.9),), seed=False),
        "nucleotides": world.add(TRAIN, "ACGTACGGTCA" * 3),
        "tiny": world.add(TRAIN, "MK"),
    }
    return world, names | {f"validation{i}": name for i, name in enumerate(held_out)} | {"test": tests[0]}


@pytest.fixture
def stage(tmp_path) -> Stage:
    """The planted world, nothing run yet. It is so small that its searches have no prefilter."""
    world, names = planted_world()
    return Stage(world.write(tmp_path), names, world)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Stage:
    """The planted world after all four steps at the default settings, in two parts. Not to be changed."""
    world, names = planted_world()
    done = Stage(world.write(tmp_path_factory.mktemp("finished")), names, world)
    done.prepare(PUBLISHED)
    done.search(PUBLISHED)
    done.remove(PUBLISHED)
    done.audit(PUBLISHED)
    return done


@pytest.fixture(scope="session")
def new_stage():
    """Make the Stage of other clusters, in a directory: {role: (side, sequence, or None for a random one)}."""

    def make(planted: dict[str, tuple[int, str | None]], directory: Path) -> Stage:
        world = World()
        names = {role: world.add(side, sequence) for role, (side, sequence) in planted.items()}
        return Stage(world.write(directory), names, world)

    return make
