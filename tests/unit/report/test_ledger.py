import json

import pytest

from unirefine.errors import UserError
from unirefine.report.ledger import first_and_last, read_ledger, removals


def write(results, stage, levels, sub=""):
    path = results / stage / sub / "counts.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"stage": stage, "levels": levels}))


def level(entered, kept, **removed):
    return {"in": entered, "kept": kept, "removed": removed}


@pytest.fixture
def results(tmp_path):
    write(tmp_path, "records", {"uniref50": level(10, 10)}, "uniref50")
    write(tmp_path, "records", {"uniref90": level(25, 24, duplicate_id=1)}, "uniref90")
    write(tmp_path, "curate", {"uniref50": level(10, 9, artificial=1), "uniref90": level(24, 20, artificial=3, long=1)})
    write(tmp_path, "cluster", {"uniref50": level(9, 9), "uniref90": level(20, 18, cluster_removed=2)})
    write(tmp_path, "decontaminate", {"uniref50": level(9, 8, similar=1), "uniref90": level(18, 15, similar=3)})
    write(tmp_path, "shard", {"uniref50": level(8, 8), "uniref90": level(15, 15)})
    return tmp_path


def test_the_ledger_adds_up_from_release_to_shards(results):
    entries = read_ledger(results)
    for name in ("uniref50", "uniref90"):
        entered, kept = first_and_last(entries, name)
        assert entered == kept + sum(count for _, _, count in removals(entries, name))


def test_removals_are_in_workflow_order_largest_first(results):
    assert removals(read_ledger(results), "uniref90") == [
        ("records", "duplicate_id", 1),
        ("curate", "artificial", 3),
        ("curate", "long", 1),
        ("cluster", "cluster_removed", 2),
        ("decontaminate", "similar", 3),
    ]


def test_own_fasta_has_one_level_of_records(results):
    (results / "records" / "uniref50" / "counts.json").unlink()
    write(results, "curate", {"uniref90": level(24, 24)})
    write(results, "cluster", {"uniref90": level(24, 18, in_cluster=6), "uniref50": level(9, 9)})
    assert first_and_last(read_ledger(results), "uniref50") == (9, 8)


def test_stages_of_different_runs_are_refused(results):
    write(results, "cluster", {"uniref50": level(9, 9), "uniref90": level(19, 19)})
    with pytest.raises(UserError, match="cluster took in 19 of uniref90, but curate kept 20"):
        read_ledger(results)


def test_counts_that_do_not_add_up_are_refused(results):
    write(results, "curate", {"uniref50": level(10, 8, artificial=1), "uniref90": level(24, 20, artificial=4)})
    with pytest.raises(UserError, match="uniref50 counts of curate do not add up"):
        read_ledger(results)


def test_a_missing_stage_is_named(results):
    (results / "shard" / "counts.json").unlink()
    with pytest.raises(UserError, match=r"shard/counts\.json: no such file"):
        read_ledger(results)
