"""What prepare writes: every sequence once, in the part of its cluster; and inputs that do not fit."""

import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.config import Decontaminate
from unirefine.core.ids import key_of
from unirefine.errors import UserError


def read_fasta(path):
    lines = path.read_text().splitlines()
    return dict(zip((line[1:] for line in lines[::2]), lines[1::2], strict=True))


@pytest.mark.parametrize("parts", [1, 7])
def test_every_train_representative_is_in_the_part_of_its_cluster(stage, parts):
    done = stage.prepare(Decontaminate(parts=parts, level="representatives"))
    world, seen = stage.world, {}
    for part in range(parts):
        found = read_fasta(stage.path("queries", f"part-{part:03d}-of-{parts:03d}.fasta"))
        assert all(int(name) % parts == part for name in found)
        seen |= found
    train = {str(world.index(n)): s for n, s in world.representatives.items() if world.sides[n] == 0}
    held_out = {str(world.index(n)): s for n, s in world.representatives.items() if world.sides[n] != 0}
    assert seen == train and done.queries == len(train)
    assert read_fasta(stage.path("target.fasta")) == held_out


def test_members_go_with_their_cluster(stage):
    stage.prepare(Decontaminate(level="members", parts=3))
    world = stage.world
    expected = sorted(
        (world.index(name) % 3, str(world.index(name)), sequence)
        for name, members in world.members.items()
        for sequence in list(members.values()) + ([] if name in members else [world.representatives[name]])
        if world.sides[name] == 0
    )
    found = [
        (part, name.partition("_")[0], sequence)
        for part in range(3)
        for name, sequence in read_fasta(stage.path("queries", f"part-{part:03d}-of-003.fasta")).items()
    ]
    assert sorted(found) == expected


def test_bytes_do_not_depend_on_batches(stage, monkeypatch):
    written = []
    for rows in (1 << 16, 3):
        monkeypatch.setattr("unirefine.decontaminate.prepare._BATCH_ROWS", rows)
        stage.prepare(Decontaminate(parts=2))
        written.append([path.read_bytes() for path in sorted(stage.path().rglob("*.fasta"))])
    assert len(written[0]) == 3 and written[0] == written[1]


def test_inputs_that_do_not_fit(stage):
    split = stage.directory / "split" / "split.parquet"
    sides = pl.read_parquet(split)
    sides.head(5).write_parquet(split)
    with pytest.raises(UserError, match="5 sides for 66 clusters"):
        stage.prepare(Decontaminate())
    sides.write_parquet(split)
    (stage.directory / "records" / "uniref50" / "records-001-of-002.parquet").unlink()
    with pytest.raises(UserError, match="records"):
        stage.prepare(Decontaminate())
    assert not stage.path("target.fasta").exists() and not list(stage.path().rglob("*.tmp"))


def test_records_of_another_release(stage):
    for path in (stage.directory / "records" / "uniref50").iterdir():
        pl.read_parquet(path).head(3).write_parquet(path)
    with pytest.raises(UserError, match="of 6 uniref50 records"):
        stage.prepare(Decontaminate())
    assert list(stage.path().rglob("*.fasta")) == []


@pytest.mark.parametrize("level", ["representatives", "members"])
def test_a_custom_fasta_has_its_representatives_among_the_members(stage, level):
    world = stage.world
    order = sorted(world.representatives, key=world.index)
    names = {name: next(iter(members)) for name, members in world.members.items()}
    directory = stage.directory
    shutil.rmtree(directory / "records" / "uniref50")
    ids = pl.concat(
        [pl.read_parquet(path)["id"] for path in sorted((directory / "records" / "uniref90").iterdir())]
    ).to_list()
    row = np.array([ids.index(f"UniRef90_{names[name]}") for name in order], np.uint32)
    key = np.array([key_of(names[name]) for name in order], np.uint64)
    table = pq.read_table(directory / "cluster" / "clusters.parquet")
    table = table.set_column(0, "key", pa.array(key)).set_column(1, "row", pa.array(row))
    pq.write_table(
        table.replace_schema_metadata({"representative_level": "uniref90"}), directory / "cluster" / "clusters.parquet"
    )
    done = stage.prepare(Decontaminate(level=level, parts=1))
    found = read_fasta(stage.path("queries", "part-000-of-001.fasta"))
    train = [name for name in order if world.sides[name] == 0]
    if level == "representatives":
        assert found == {str(world.index(name)): world.members[name][names[name]] for name in train}
    else:
        assert sorted(found.values()) == sorted(text for name in train for text in world.members[name].values())
    assert done.targets == 8
