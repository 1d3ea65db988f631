"""The split stage on files: counts, id lists, errors, and bytes that do not depend on how the input was written."""

import json
import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.config import Split
from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import id_of, key_of
from unirefine.errors import UserError
from unirefine.split.run import run


def write_clusters(directory, count=1000, row_group=None):
    """clusters.parquet with `count` UPI clusters of sizes 1, 2, 3, 1, ...; returns its keys."""
    keys = np.array([key_of(f"UPI{7919 * i:010X}") for i in range(count)], np.uint64)
    size = (np.arange(count) % 3 + 1).astype(np.uint32)
    table = pa.table(
        {"key": keys, "row": np.arange(count, dtype=np.uint32), "length": size.astype(np.int32), "size": size}
    )
    directory.mkdir(exist_ok=True)
    pq.write_table(table, directory / "clusters.parquet", row_group_size=row_group)
    return keys


def split(tmp_path, **options):
    counts = run(Split(**options), tmp_path / "cluster", tmp_path / "split")
    side = pl.read_parquet(tmp_path / "split" / "split.parquet")["side"]
    assert side.dtype == pl.UInt8
    return counts, side.to_numpy(), json.loads((tmp_path / "split" / "counts.json").read_text())


def test_counts_of_clusters_and_members(tmp_path):
    keys = write_clusters(tmp_path / "cluster")
    counts, side, written = split(tmp_path, validation_fraction=0.1, test_fraction=0.05)
    assert counts.clusters == (850, 100, 50)
    assert written["levels"]["uniref50"] == {"in": 1000, "kept": 1000, "removed": {}}
    members = np.arange(1000) % 3 + 1
    for number, name in enumerate(("train", "validation", "test")):
        assert written["sides"][name] == {
            "clusters": int((side == number).sum()),
            "members": int(members[side == number].sum()),
        }
    assert written["levels"]["uniref90"]["kept"] == members.sum()
    largest = keyed_hash(42, keys)[side == 1].max()
    assert written["largest_hash"]["validation"] == f"{largest:016x}"


def test_an_explicit_count_wins(tmp_path):
    write_clusters(tmp_path / "cluster")
    assert split(tmp_path, validation_count=123)[0].clusters == (877, 123, 0)


def test_bytes_do_not_depend_on_row_groups(tmp_path):
    written = []
    for group in (None, 17):
        write_clusters(tmp_path / "cluster", row_group=group)
        split(tmp_path, validation_fraction=0.1)
        written.append([(tmp_path / "split" / name).read_bytes() for name in ("split.parquet", "counts.json")])
    assert written[0] == written[1]


def test_an_id_list_as_text(tmp_path):
    keys = write_clusters(tmp_path / "cluster")
    wanted = keys[[3, 500, 999]]
    names = [id_of(int(key)) for key in wanted]
    text = f"# a comment\nUniRef50_{names[0]}\n{names[1]} # here too\n\n{names[2]}\r\n{names[2]}\n"
    text += "UniRef50_P12345\nQ6GZX4\n"
    (tmp_path / "ids.txt").write_text(text)
    counts, side, written = split(tmp_path, method="ids", ids=str(tmp_path / "ids.txt"))
    assert np.flatnonzero(side).tolist() == [3, 500, 999]
    assert (counts.missing, counts.listed) == (missing_of(tmp_path), 5)
    assert sorted(counts.missing) == ["Q6GZX4", "UniRef50_P12345"]
    listed = written["list"]
    assert (listed["listed"], listed["distinct"], listed["found"], listed["missing"]) == (6, 5, 3, 2)
    split(tmp_path, validation_count=3)
    assert not (tmp_path / "split" / "missing_ids.txt").exists()  # there is no list any more


def missing_of(tmp_path):
    return (tmp_path / "split" / "missing_ids.txt").read_text().splitlines()


@pytest.mark.parametrize("kind", ["text", "id", "ur50_id"])
def test_every_usual_spelling_of_an_id_is_read(tmp_path, kind, capsys):
    keys = write_clusters(tmp_path / "cluster")
    names = [id_of(int(key)) for key in keys]
    written = [
        *(f"\ufeff{names[0]}", f'"{names[1]}",', names[2].lower(), f"{names[3]}.2", f"UniRef50_{names[4]}/1-20"),
        *(f"AF-{names[5]}-F1", f"sp|{names[6]}|X_Y", f"uniref50_{names[7]}", "AATM_RABIT", f"{names[0]};"),
    ]
    path = tmp_path / "ids"
    if kind == "text":
        path.write_text("\r\n".join(written), encoding="utf-8")
    else:
        pl.DataFrame({kind: [written[0].removeprefix("\ufeff"), *written[1:]]}).write_parquet(path)
    paths = ["--clusters", str(tmp_path / "cluster"), "--output", str(tmp_path / "split")]
    assert main(["split", *paths, "--set", "method=ids", "--set", f"ids={path}"]) == 0
    assert "8 of 9 listed ids are clusters here; not found: AATM_RABIT; see " in capsys.readouterr().out
    side = pl.read_parquet(tmp_path / "split" / "split.parquet")["side"].to_numpy()
    assert np.flatnonzero(side).tolist() == list(range(8))
    assert missing_of(tmp_path) == ["AATM_RABIT"]


def test_accessions_and_names_inside_the_ids_of_your_own_fasta_are_found_in_the_records(tmp_path, capsys):
    ids = ["sp|P12345|AATM_RABIT", "tr|A0A009IHW8.2|A0A009IHW8_ACIBA", "sp|P10636|TAU_HUMAN", "my_gene", "Q6GZX4"]
    (tmp_path / "own.fasta").write_text("".join(f">{name}\nMKVLAAGIVG\n" for name in ids))
    command = ["records", "--level", "uniref90", "--input", str(tmp_path / "own.fasta"), "--set", "parts=1"]
    assert main([*command, "--output", str(tmp_path / "records")]) == 0
    rows = sorted(range(5), key=lambda row: key_of(ids[row]))
    keys = np.array([key_of(ids[row]) for row in rows], np.uint64)
    (tmp_path / "cluster").mkdir()
    table = pa.table({"key": keys, "row": np.array(rows, np.uint32), "size": np.ones(5, np.uint32)})
    table = table.replace_schema_metadata({"representative_level": "uniref90"})
    pq.write_table(table, tmp_path / "cluster" / "clusters.parquet")
    (tmp_path / "ids.txt").write_text("P12345\ntau_human\nA0A009IHW8\nQ67890\n")
    paths = ["--clusters", str(tmp_path / "cluster"), "--output", str(tmp_path / "split"), "--set", "method=ids"]
    paths += ["--set", f"ids={tmp_path / 'ids.txt'}"]
    assert main(["split", *paths]) == 1
    assert "none of its 4 ids is a cluster here" in capsys.readouterr().err
    assert main(["split", *paths, "--records", str(tmp_path / "records")]) == 0
    side = pl.read_parquet(tmp_path / "split" / "split.parquet")["side"].to_numpy()
    assert {ids[row] for row, one in zip(rows, side, strict=True) if one} == set(ids[:3])
    assert missing_of(tmp_path) == ["Q67890"]


def test_an_id_list_as_parquet_with_a_test_side(tmp_path):
    keys = write_clusters(tmp_path / "cluster")
    names = [f"UniRef50_{id_of(int(key))}" for key in keys[:50]]
    pl.DataFrame({"id": names}).write_parquet(tmp_path / "ids.parquet")
    _, side, _ = split(tmp_path, method="ids", ids=str(tmp_path / "ids.parquet"), test_fraction=0.1)
    assert (side[:50] == 1).all()
    hashes = keyed_hash(42, keys)[50:]
    assert np.array_equal(side[50:] == 2, hashes <= np.sort(hashes)[99])


def test_a_split_reproduces_from_its_own_id_list(tmp_path):
    keys = write_clusters(tmp_path / "cluster")
    _, by_hash, _ = split(tmp_path, validation_fraction=0.07)
    (tmp_path / "ids.txt").write_text("\n".join(id_of(int(key)) for key in keys[by_hash == 1]))
    _, by_list, _ = split(tmp_path, method="ids", ids=str(tmp_path / "ids.txt"))
    assert np.array_equal(by_hash, by_list)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0.0005}, "less than one cluster"),
        ({"validation_count": 1000}, "nothing to train on"),
        ({"validation_count": 960, "test_fraction": 0.05}, "nothing to train on"),
        ({"method": "ids", "ids": "nowhere.txt"}, "no such id list"),
        ({"method": "ids", "ids": "other.txt"}, "other.txt: none of its 1 ids is a cluster here, P12345"),
        ({"method": "ids", "ids": "pipe"}, "pipe: a pipe, which can be read only once"),
        ({"method": "ids", "ids": "two.txt"}, "two.txt: line 2 is not one id: 'UPI1 UPI2'"),
        ({"method": "ids", "ids": "members.txt"}, "UniRef90_P12345 is not a UniRef50 id"),
        ({"method": "ids", "ids": "empty.txt"}, "no ids"),
        ({"method": "ids", "ids": "column.parquet"}, "no column `id` or `ur50_id`; it has name"),
        ({"method": "ids", "ids": "binary.txt"}, "not UTF-8 text .*; give one id a line, or a Parquet column"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path, monkeypatch, options, message):
    write_clusters(tmp_path / "cluster")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("P12345\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "two.txt").write_text("P12345\nUPI1 UPI2\n")
    (tmp_path / "members.txt").write_text("UniRef90_P12345\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    pl.DataFrame({"name": ["a"]}).write_parquet(tmp_path / "column.parquet")
    with pytest.raises(UserError, match=message):
        run(Split(**options), tmp_path / "cluster", tmp_path / "split")
    assert not (tmp_path / "split" / "split.parquet").exists()


def test_keys_out_of_order_are_refused(tmp_path):
    keys = write_clusters(tmp_path / "cluster")
    table = pq.read_table(tmp_path / "cluster" / "clusters.parquet")
    pq.write_table(table.set_column(0, "key", pa.array(keys[::-1])), tmp_path / "cluster" / "clusters.parquet")
    with pytest.raises(UserError, match="not strictly ascending"):
        run(Split(), tmp_path / "cluster", tmp_path / "split")


def test_the_lineage_holds_the_sides_and_the_list(tmp_path):
    keys = write_clusters(tmp_path / "cluster")
    (tmp_path / "ids.txt").write_text(id_of(int(keys[0])))
    *_, written = split(tmp_path, method="ids", ids=str(tmp_path / "ids.txt"))
    lineage = json.loads((tmp_path / "split" / "lineage.json").read_text())
    (step,) = lineage["steps"]
    assert (step["stage"], step["counts"]) == ("split", written["sides"])
    assert [one["file"] for one in step["inputs"]] == [str(tmp_path / "ids.txt")]
    assert lineage["unknown"] == [str(tmp_path / "cluster")]


def test_the_command(tmp_path, capsys):
    write_clusters(tmp_path / "cluster")
    paths = ["--clusters", str(tmp_path / "cluster"), "--output", str(tmp_path / "split")]
    assert main(["split", *paths, "--set", "validation_count=10"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("validation: 10 clusters, ")
    assert main(["split", *paths, "--set", "validation_cout=10"]) == 1
    assert "validation_count" in capsys.readouterr().err
