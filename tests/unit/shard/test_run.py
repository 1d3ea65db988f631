"""What is written: every sequence of every kept cluster, once, in the documented order, for any number of threads."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.config import Shard
from unirefine.core.alphabet import BYTE_TO_TOKEN
from unirefine.dataset import IndexedFiles, open_shards
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.shard import plan, spill
from unirefine.shard.run import run as build_shards


def documents(side):
    """(cluster id, [(id, tokens as list)]) of a side, read back."""
    found = []
    for document in range(side.documents):
        members = side.document(document)
        clusters = {side.ids(sequence)[1] for sequence in members}
        assert len(clusters) == 1
        found.append((clusters.pop(), [(side.ids(i)[0], side.tokens(i).tolist()) for i in members]))
    return found


def tokenised(expected):
    return [
        (
            cluster,
            [(name, BYTE_TO_TOKEN[np.frombuffer(sequence.encode(), np.uint8)].tolist()) for name, sequence in members],
        )
        for cluster, members in expected
    ]


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("level", ["uniref50", "uniref90"])
@pytest.mark.parametrize("validation", ["representatives", "members"])
@pytest.mark.parametrize("string", [pa.string(), pa.large_string()])
def test_shards_hold_exactly_the_kept_clusters(tmp_path, make_run, level, validation, string):
    run = make_run(tmp_path / "run", level=level, string=string, seed=3)
    config = Shard(parts=5, seed=9, validation=validation)
    build_shards(config, **run.inputs, output=tmp_path / "shard", threads=2)
    shards = open_shards(tmp_path / "shard")
    assert documents(shards.train) == tokenised(run.expected(0, 9, representatives=False))
    for side, code in ((shards.validation, 1), (shards.test, 2)):
        assert documents(side) == tokenised(run.expected(code, 9, representatives=validation == "representatives"))


def test_bytes_do_not_depend_on_threads_or_buckets(tmp_path, run, monkeypatch):
    config = Shard(parts=4)
    build_shards(config, **run.inputs, output=tmp_path / "one", threads=1)
    build_shards(config, **run.inputs, output=tmp_path / "four", threads=4)
    one = digests(tmp_path / "one")
    assert one == digests(tmp_path / "four")
    assert sorted(one) == sorted(
        ["manifest.json", "counts.json", "lineage.json"]
        + [f"{name}.{suffix}" for name in [*(f"train-{i:03d}-of-004" for i in range(4)), "validation", "test"]
           for suffix in ("bin", "idx", "ids.parquet")]
    )  # fmt: skip
    monkeypatch.setattr(plan, "BUCKET_BYTES", 3000)  # several buckets a shard: other row groups of ids, same tokens
    build_shards(config, **run.inputs, output=tmp_path / "small", threads=2)
    small = digests(tmp_path / "small")
    assert {n: d for n, d in small.items() if n.endswith((".bin", ".idx"))} == {
        n: d for n, d in one.items() if n.endswith((".bin", ".idx"))
    }
    ids = pq.ParquetFile(tmp_path / "small" / "train-000-of-004.ids.parquet")
    assert ids.num_row_groups > 1
    assert ids.read().equals(pq.read_table(tmp_path / "one" / "train-000-of-004.ids.parquet"))


def test_bytes_do_not_depend_on_how_the_tables_are_read(tmp_path, run, monkeypatch):
    build_shards(Shard(parts=3), **run.inputs, output=tmp_path / "whole", threads=1)
    monkeypatch.setattr(spill, "_BATCH_ROWS", 7)
    monkeypatch.setattr(plan, "_BATCH_ROWS", 5)
    build_shards(Shard(parts=3), **run.inputs, output=tmp_path / "batches", threads=3)
    assert digests(tmp_path / "whole") == digests(tmp_path / "batches")


def test_the_directory_of_a_killed_build_is_deleted(tmp_path, run):
    left = tmp_path / "s" / ".build.0123456789ab.tmp"
    left.mkdir(parents=True)
    (left / "bucket-0000").write_bytes(b"torn")
    with pytest.raises(UserError, match="no manifest"):
        open_shards(tmp_path / "s")
    build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)
    assert not list((tmp_path / "s").glob(".build*"))
    open_shards(tmp_path / "s")


def test_shards_are_balanced_and_the_seed_shuffles(tmp_path, run):
    build_shards(Shard(parts=7, seed=1), **run.inputs, output=tmp_path / "a", threads=2)
    build_shards(Shard(parts=7, seed=2), **run.inputs, output=tmp_path / "b", threads=2)
    each = [IndexedFiles([tmp_path / "a" / f"train-{i:03d}-of-007"]).documents for i in range(7)]
    assert max(each) - min(each) <= 1
    orders = []
    for directory in ("a", "b"):
        train = open_shards(tmp_path / directory).train
        orders.append([train.ids(i)[1] for i in range(train.sequences)])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_counts_add_up(tmp_path, run):
    manifest = build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)
    counts = json.loads((tmp_path / "s" / "counts.json").read_text())
    sides = [[c for c in run.clusters if c["side"] == code] for code in range(3)]
    members = [sum(len(c["members"]) for c in side) for side in sides]
    kept = sum(map(len, sides))
    assert counts["levels"]["uniref50"] == {"in": kept, "kept": kept, "removed": {}}
    assert counts["levels"]["uniref90"] == {
        "in": sum(members), "kept": members[0],
        "removed": {"test_cluster_member": members[2], "validation_cluster_member": members[1]},
    }  # fmt: skip
    train = counts["sides"]["train"]
    sequences = [sequence for c in sides[0] for _, sequence in c["members"]]
    assert train["tokens"] == sum(map(len, sequences))
    assert train["longest"] == max(map(len, sequences))
    assert train["unknown"] == sum(sequence.count("J") for sequence in sequences)
    assert manifest["sides"] == counts["sides"]
    assert "date" not in json.dumps(manifest)
    for file in manifest["files"]:
        raw = (tmp_path / "s" / file["name"]).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (file["bytes"], file["sha256"])


def test_the_lineage_has_the_release_the_counts_and_the_hashes(tmp_path, run):
    manifest = build_shards(Shard(parts=2, seed=8), **run.inputs, output=tmp_path / "s", threads=1)
    found = lineage.read(tmp_path / "s")
    (step,) = found["steps"]
    assert (step["stage"], step["config"]["seed"], step["counts"]) == ("shard", 8, manifest["sides"])
    assert found["release"] == json.loads(run.inputs["release"].read_text())
    assert found["files"] == manifest["files"]


def test_members_of_validation_are_counted_as_kept_when_they_validate(tmp_path, run):
    build_shards(Shard(parts=2, validation="members"), **run.inputs, output=tmp_path / "s", threads=1)
    counts = json.loads((tmp_path / "s" / "counts.json").read_text())["levels"]["uniref90"]
    assert counts["removed"] == {} and counts["in"] == counts["kept"] > 0


def rewrite(path, change):
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def changed(table, name, position, value):
    values = table[name].to_pylist()
    values[position] = value
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("split.parquet", lambda t: t.slice(1), "rows for 300 clusters"),
        ("cluster/membership.parquet", lambda t: t.slice(1), "as many members"),
        ("cluster/membership.parquet", lambda t: t.slice(0, len(t) - 1), "as many members"),
        ("cluster/membership.parquet", lambda t: changed(t, "row", 5, 10**6), "beyond the"),
        ("cluster/clusters.parquet", lambda t: changed(t, "row", 5, 10**6), "beyond the"),
        ("split.parquet", lambda t: pa.table({"side": pa.array([0] * len(t), pa.uint8())}), "no validation clusters"),
        ("split.parquet", lambda t: pa.table({"side": pa.array([1] * len(t), pa.uint8())}), "no train clusters"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(tmp_path, make_run, file, change, message):
    run = make_run(tmp_path / "run")
    rewrite(run.root / file, change)
    with pytest.raises(UserError, match=message) as caught:
        build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "s").iterdir())


def test_clusters_of_no_named_level_are_refused(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    path = run.root / "cluster" / "clusters.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(UserError, match="representative_level"):
        build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)


def test_a_record_in_two_clusters_is_refused(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    rewrite(
        run.root / "cluster" / "membership.parquet",
        lambda t: t.set_column(1, "row", pa.array([7] * len(t), pa.uint32())),
    )
    with pytest.raises(UserError, match="member of two clusters"):
        build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)


def test_a_record_of_another_length_is_refused_and_leaves_nothing(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    train = next(i for i, cluster in enumerate(run.clusters) if cluster["side"] == 0)
    first = sum(len(cluster["members"]) for cluster in run.clusters[:train])
    rewrite(run.root / "cluster" / "membership.parquet", lambda t: changed(t, "length", first, 100_000))
    with pytest.raises(UserError, match="is not as long as the cluster tables say"):
        build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=2)
    assert not list((tmp_path / "s").iterdir())


def test_missing_parts_too_many_shards_and_small_disks_are_reported(tmp_path, make_run, monkeypatch):
    run = make_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"set shard.parts to at most \d+"):
        build_shards(Shard(parts=300), **run.inputs, output=tmp_path / "s", threads=1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(
        UserError, match=r"building the shards needs .*; the disk has 10 B free; free some space or put"
    ):
        build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)
    (run.root / "records" / "uniref90" / "records-001-of-003.parquet").unlink()
    with pytest.raises(UserError, match="2 records parts, which are not the whole of one set"):
        build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)


def test_a_failed_rebuild_keeps_the_old_shards(tmp_path, run, monkeypatch):
    build_shards(Shard(parts=2), **run.inputs, output=tmp_path / "s", threads=1)
    before = digests(tmp_path / "s")

    def broken(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unirefine.shard.assemble.write_index", broken)
    with pytest.raises(OSError, match="No space"):
        build_shards(Shard(parts=2, seed=99), **run.inputs, output=tmp_path / "s", threads=2)
    assert digests(tmp_path / "s") == before
