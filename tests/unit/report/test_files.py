"""What the report reads of a run: benchmark files, taxa, a sample of the records, examples of what was removed."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from unirefine.core.ids import key_of
from unirefine.core.tables import table_writer
from unirefine.errors import UserError
from unirefine.report import composition
from unirefine.report.composition import AMINO_ACIDS, read_sample
from unirefine.report.costs import cost_rows, read_costs
from unirefine.report.examples import example_rows
from unirefine.report.proteins import breakdown_by_group
from unirefine.report.taxa import NAMES, read_taxa


def write(path, metadata=None, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    with table_writer(path, table.schema, metadata) as writer:
        writer.write({name: table[name].combine_chunks() for name in table.column_names})


def test_costs_are_added_up_over_the_jobs_of_a_stage(tmp_path):
    results = tmp_path / "results" / "run"
    (results / "curate").mkdir(parents=True)
    (results / "curate" / "counts.json").write_text("12345")
    (results / "curate" / "mine.txt").write_text("not ours")
    files = tmp_path / "benchmarks" / "run" / "curate"
    files.mkdir(parents=True)
    (files / "a.tsv").write_text("s\tmax_rss\tcpu_time\n70.5\t100\t60\n")
    (files / "b.tsv").write_text("s\tmax_rss\tcpu_time\n10\t300\tNA\n")
    (files / "c.tsv").write_bytes(b"\xff\xfe not a table")
    rows = {row[0]: row for row in cost_rows(read_costs(results))}
    assert rows["curate"] == ["curate", "2", "1m20s", "1m10s", "1m00s", "315 MB", "5 B"]
    assert rows["shard"][1:] == ["-"] * 6


def dump(path, **files):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            data = text.replace(" ", "\t|\t").replace("_", " ").encode()
            info = tarfile.TarInfo(f"{name}.dmp")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


NODES = "1 1 x\n2 1 x\n562 2 x\n2759 1 x\n33208 2759 x\n9606 33208 x\n5 2759 x\n77 1 x\n"


def test_taxa_have_the_kingdom_of_the_nearest_group(tmp_path):
    files = {"nodes": NODES, "merged": "12 562 x\n", "names": "9606 human _ common_name\n9606 Homo _ scientific_name\n"}
    taxa = read_taxa(dump(tmp_path / "t.tar.gz", **files), {9606})
    found = [NAMES[group] for group in taxa.groups_of(np.array([562, 12, 9606, 5, 77, 99999999, -1]))]
    assert found == ["bacteria", "bacteria", "animals", "other eukaryotes", "other", "other", "not known"]
    assert (taxa.name(9606), taxa.name(562)) == ("Homo", "taxon 562")
    assert read_taxa(tmp_path / "none.tar.gz", set()) is None


@pytest.mark.parametrize("nodes", ["1 x y\n", "1 99999999999 x\n", "-4 1 x\n"])
def test_a_damaged_taxonomy_is_one_line(tmp_path, nodes):
    with pytest.raises(UserError, match=r"t\.tar\.gz: line 1 of nodes\.dmp "):
        read_taxa(dump(tmp_path / "t.tar.gz", nodes=nodes), set())
    (tmp_path / "t.tar.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="not a taxonomy dump"):
        read_taxa(tmp_path / "t.tar.gz", set())


@pytest.fixture
def records(tmp_path):
    sequences = ["MKA", "AAAA", "XUMK", "L"]
    write(tmp_path / "records/uniref90/records-000-of-001.parquet", sequence=sequences,
          taxon_id=pa.array([9606, 562, None, 5], pa.int32()), rep_taxon_id=pa.array([None, 12, None, -1], pa.int32()),
          key=pa.array(range(4), pa.uint64()))  # fmt: skip
    write(tmp_path / "curate/uniref90.parquet", row=pa.array([0, 1, 3], pa.uint32()))
    write(tmp_path / "decontaminate/split.parquet", side=pa.array([0, 1, 255], pa.uint8()))
    rows = pa.array([3, 0, 1], pa.uint32())
    write(tmp_path / "cluster/membership.parquet", cluster=pa.array([0, 1, 2], pa.uint32()), row=rows)
    return tmp_path


def test_the_sample_is_of_every_record_of_a_small_run(records):
    sample = read_sample(records)
    assert sample.text == "all 4 sequences" and sample.rows.tolist() == [0, 1, 2, 3]
    letters = dict(zip([*AMINO_ACIDS, "others"], sample.letters.sum(0).tolist(), strict=True))
    assert {name: count for name, count in letters.items() if count} == {"A": 5, "K": 2, "M": 2, "L": 1, "others": 2}
    assert sample.taxon.tolist() == [9606, 12, -1, 5]
    assert {name: kept.tolist() for name, kept in sample.kept.items()} == {
        "input": [True] * 4,
        "after curation": [True, True, False, True],
        "train": [False, False, False, True],
    }


def test_the_sample_is_spread_over_a_large_run(records, monkeypatch):
    monkeypatch.setattr(composition, "SAMPLE", 2)
    sample = read_sample(records)
    assert sample.rows.tolist() == [0, 2]
    assert sample.text == "a sample of 2 of 4 sequences, spread evenly over the input"
    (records / "records/uniref90/records-000-of-001.parquet").unlink()
    assert read_sample(records) is None


def removed(path, *rows):
    level, name, reason, evidence = zip(*rows, strict=True)
    write(path, level=list(level), id=list(name), reason=list(reason), evidence=list(evidence))


def test_examples_are_of_every_kind_and_have_the_best_hit(tmp_path):
    names = ["A0A067KPZ0", "P12345"]
    many = [("uniref90", f"UniRef90_Q{i:05d}", "cluster_removed", "UniRef50_P12345") for i in range(40)]
    similar = [("uniref50", f"UniRef50_{name}", "similar_to_validation", "identity 0.6 to X") for name in names]
    removed(tmp_path / "decontaminate/removed.parquet", *similar, *many)
    removed(tmp_path / "curate/removed.parquet", *[("uniref90", f"UniRef90_A{i}", "purge_list", "") for i in range(9)])
    keys = sorted(key_of(name) for name in names)
    write(tmp_path / "cluster/clusters.parquet", key=pa.array(keys, pa.uint64()))
    at = keys.index(key_of("P12345"))
    write(tmp_path / "decontaminate/hits/part-000-of-001.parquet", cluster=pa.array([at, at], pa.uint32()),
          identity=[0.5, 0.61], query_coverage=[0.9, 0.81], target_coverage=[0.9, 1.0],
          evalue=[1e-9, 2e-20])  # fmt: skip
    rows = example_rows(tmp_path)
    assert len(rows) == 10
    assert rows[0][:4] == ["UniRef90_A0", "curate", "purge list", ""]
    assert rows[4][:2] == ["UniRef50_P12345", "decontaminate"] and rows[4][4:] == ["61.0%", "81%", "100%", "2.0e-20"]
    assert rows[1][4:] == [""] * 4, "without a hit"
    assert {row[2] for row in rows[:3]} == {"purge list", "similar to validation", "cluster removed"}
    assert example_rows(tmp_path / "none") == []


def test_perplexity_by_kingdom_pools_residues_and_resamples_clusters():
    table = pa.table({"cluster_id": ["a", "a", "b", "c", "d"], "hidden": [2, 2, 4, 1, 0],
                      "nll ours": [2.0, 4.0, 8.0, 3.0, 0.0]})  # fmt: skip
    rows = breakdown_by_group(table, np.array([0, 0, 0, 4, 0]), seed=0)
    assert [(row["bin"], row["sequences"], row["clusters"], row["residues"]) for row in rows] == [
        ("animals", 3, 2, 8), ("bacteria", 1, 1, 1)
    ]  # fmt: skip
    assert rows[0]["ours"] == pytest.approx(np.exp(14 / 8)) and rows[1]["intervals"] is None
    assert rows[0]["intervals"]["ours"] == [pytest.approx(np.exp(1.5)), pytest.approx(np.exp(2.0))]
    assert breakdown_by_group(table, np.full(5, NAMES.index("not known")), seed=0) == []
