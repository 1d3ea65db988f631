"""Two small runs that differ in every way, against sets and dictionaries; and through the command."""

import json
import random
from collections import Counter

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.compare import run as comparing
from unirefine.core.ids import key_of
from unirefine.files.atomic import write_json

SIDES = {"train": 0, "validation": 1, "test": 2, "removed": 255}


def accession(number):
    return f"P{number:05d}"


def write_run(directory, clusters, split, final, *, release, removed=(), seed=42):
    """clusters: {representative: members}; split, final: {representative: side}; removed: (stage, level, id, why)."""
    order = sorted(clusters, key=key_of)
    members = [(at, name) for at, cluster in enumerate(order) for name in sorted(clusters[cluster], key=key_of)]
    shuffled = random.Random(1)
    for level, names in (("UniRef50", order), ("UniRef90", [name for _at, name in members])):
        names = shuffled.sample(names, len(names))
        path = directory / "records" / level.lower() / "records-000-of-001.parquet"
        path.parent.mkdir(parents=True)
        pl.DataFrame({"id": [f"{level}_{name}" for name in names]}).write_parquet(path)
        if level == "UniRef50":
            rows50 = {name: row for row, name in enumerate(names)}
        else:
            rows90 = {name: row for row, name in enumerate(names)}
    (directory / "cluster").mkdir()
    table = pa.table(
        {
            "key": pa.array([key_of(name) for name in order], pa.uint64()),
            "row": pa.array([rows50[name] for name in order], pa.uint32()),
        }
    ).replace_schema_metadata({"representative_level": "uniref50"})
    pq.write_table(table, directory / "cluster/clusters.parquet")
    columns = {"cluster": pl.UInt32, "row": pl.UInt32, "key": pl.UInt64}
    flat = [(at, rows90[name], key_of(name)) for at, name in members]
    pl.DataFrame(flat, schema=columns, orient="row").write_parquet(directory / "cluster/membership.parquet")
    for stage, sides in (("split", split), ("decontaminate", final)):
        (directory / stage).mkdir()
        values = pl.Series("side", [SIDES[sides[name]] for name in order], dtype=pl.UInt8)
        pl.DataFrame(values).write_parquet(directory / stage / "split.parquet")
    for stage in {row[0] for row in removed}:
        rows = [row[1:] for row in removed if row[0] == stage]
        (directory / stage).mkdir(exist_ok=True)
        pl.DataFrame(rows, schema=["level", "id", "reason"], orient="row").write_parquet(
            directory / stage / "removed.parquet"
        )
    steps = [{"stage": "split", "config": {"method": "hash", "seed": seed}}]
    write_json(
        directory / "decontaminate/lineage.json",
        {"format": "unirefine-lineage", "version": 1, "of": "decontaminate", "release": None,
         "steps": steps, "unknown": []},
    )  # fmt: skip
    write_json(directory / "release/release.json", {"source": "archive", "release": release, "files": []})
    return directory


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Two runs as dictionaries, and on disk."""
    base, draw = tmp_path_factory.mktemp("runs"), random.Random(7)
    first = {accession(n): {accession(n), *(accession(1000 + 10 * n + k) for k in range(n % 4))} for n in range(60)}
    second = {name: set(members) for name, members in first.items()}
    for name in draw.sample(sorted(second), 6):
        del second[name]
    for n in range(60, 70):
        second[accession(n)] = {accession(n)}
    for name in draw.sample(sorted(first.keys() & second.keys()), 8):
        moving = sorted(second[name] - {name})
        if moving:
            second[name].remove(moving[0])
            second[draw.choice(sorted(second.keys() - {name}))].add(moving[0])
    lone = accession(61)  # takes the members of a cluster whose representative is gone
    second[lone] |= first[sorted(first.keys() - second.keys())[0]]
    splits = [
        {name: draw.choices(["train", "validation", "test"], [8, 2, 1])[0] for name in world}
        for world in (first, second)
    ]
    for name in sorted(first.keys() & second.keys()):
        if draw.random() < 0.8:
            splits[1][name] = splits[0][name]
    finals = [dict(sides) for sides in splits]
    removed = []
    for which in (0, 1):
        for name in draw.sample(sorted(name for name, side in finals[which].items() if side == "train"), 5):
            finals[which][name] = "removed"
            removed.append((which, ("decontaminate", "uniref50", f"UniRef50_{name}", "similar_to_validation")))
    gone = sorted(first.keys() - second.keys())
    removed.append((1, ("curate", "uniref50", f"UniRef50_{gone[1]}", "too_short")))
    removed.append((1, ("curate", "uniref90", f"UniRef90_{gone[1]}", "too_short")))
    runs = []
    for which, (world, release) in enumerate(((first, "2024_03"), (second, "2024_04"))):
        own = [row for owner, row in removed if owner == which]
        path = base / ("first", "second")[which]
        runs.append(write_run(path, world, splits[which], finals[which], release=release, removed=own))
    return runs, (first, second), splits, finals, gone


def owners(world):
    return {member: cluster for cluster, members in world.items() for member in members}


@pytest.mark.parametrize("size", [20_000_000, 25])
def test_ids_agree_with_sets(worlds, tmp_path, monkeypatch, size):
    monkeypatch.setattr(comparing, "SLICE", size)
    runs, (first, second), _splits, _finals, gone = worlds
    found = comparing.run(*runs, tmp_path)
    clusters, members = found["clusters"], found["members"]
    assert (clusters["common"], clusters["gone"], clusters["new"]) == (54, 6, 10)
    assert clusters["gone_because"] == {"not in the release": 5, "curate: too_short": 1}
    assert clusters["new_because"] == {"not in the release": 10}
    left, right = owners(first), owners(second)
    moved = {name for name in left.keys() & right.keys() if left[name] != right[name]}
    real = {name for name in moved if left[name] in second and right[name] in first}
    assert len(real) < len(moved)
    assert (members["common"], members["gone"], members["new"]) == (
        len(left.keys() & right.keys()), len(left.keys() - right.keys()), len(right.keys() - left.keys()),
    )  # fmt: skip
    assert (members["moved"], members["moved_between_common"]) == (len(moved), len(real))
    assert members["gone_because"] == {"not in the release": members["gone"] - 1, "curate: too_short": 1}
    rows = pl.read_parquet(tmp_path / "members.parquet")
    assert {row[0]: row[2:] for row in rows.filter(pl.col("change") == "moved").rows()} == {
        f"UniRef90_{name}": (f"UniRef50_{left[name]}", f"UniRef50_{right[name]}") for name in moved
    }
    assert {row[0]: row[2:] for row in rows.filter(pl.col("change") == "gone").rows()} == {
        f"UniRef90_{name}": (f"UniRef50_{left[name]}", None) for name in left.keys() - right.keys()
    }
    listed = pl.read_parquet(tmp_path / "clusters.parquet").filter(pl.col("change") == "gone")["id"]
    assert sorted(listed) == [f"UniRef50_{name}" for name in gone]


def test_sides_agree_with_dictionaries(worlds, tmp_path):
    runs, (first, second), splits, finals, _gone = worlds
    found = comparing.run(*runs, tmp_path)
    common = first.keys() & second.keys()
    pairs = Counter((finals[0][name], finals[1][name]) for name in common)
    expected = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    counted = Counter()
    for row in found["clusters"]["changed"]:
        counted[row["from"], row["to"]] += row["clusters"]
    assert counted == expected
    because = Counter()
    for name in common:
        if finals[0][name] != finals[1][name]:
            which = "first" if finals[0][name] == "removed" else "second"
            taken = f"similar_to_validation in the {which}"
            because["the boundary of the hash moved" if splits[0][name] != splits[1][name] else taken] += 1
    reported = Counter()
    for row in found["clusters"]["changed"]:
        reported[row["because"]] += row["clusters"]
    assert reported == because and len(because) == 3
    validation = found["clusters"]["validation"]
    assert validation["common"] == pairs["validation", "validation"]
    assert validation["trains_in_second"] == pairs["validation", "train"]
    left, right = owners(first), owners(second)
    both = left.keys() & right.keys()
    leaks = sum(finals[0][left[name]] == "validation" and finals[1][right[name]] == "train" for name in both)
    assert found["members"]["validation_trains_in_second"] == leaks > 0


def test_other_options_are_the_reason(worlds, tmp_path, capsys):
    runs, (first, _second), splits, _finals, _gone = worlds
    other = {name: "validation" if side == "train" else "train" for name, side in splits[0].items()}
    write_run(tmp_path / "other", first, other, other, release="2024_03", seed=1)
    assert main(["compare", str(runs[0]), str(tmp_path / "other")]) == 0
    text = capsys.readouterr().out
    assert "option split.seed: 42 -> 1" in text and "(the split's options differ)" in text
    assert "members gone: 0\n" in text
    assert f"first: {runs[0]}, release 2024_03: " in text
    assert main(["compare", str(runs[0]), str(runs[0]), "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["clusters"]["changed"] == [] and same["members"]["moved"] == 0 and same["options"] == []
    assert same["clusters"]["validation"]["common"] == same["clusters"]["validation"]["first"]


def test_mistakes_are_one_line(worlds, tmp_path, capsys):
    runs = worlds[0]
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "nothing", "no such directory"),
        (tmp_path / "empty", "no results of a run are there"),
    ):
        assert main(["compare", str(runs[0]), str(path)]) == 1
        error = capsys.readouterr().err
        assert message in error and str(path) in error and error.count("\n") == 1
