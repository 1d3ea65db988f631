"""The whole stage on planted pairs: what is removed, kept and written, compared with an independent aligner."""

import json
import math
import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from Bio.Align import PairwiseAligner, substitution_matrices
from scipy.stats import binomtest

from unirefine.config import Decontaminate, Search
from unirefine.core import summaries
from unirefine.decontaminate.inputs import audited
from unirefine.decontaminate.remove import read_searched
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.tools import find_mmseqs, tool_version

REMOVED = 255
KINDS = ("hits", "audit", "nearest")
PUBLISHED = Decontaminate(parts=2, level="representatives")


def oracle(query, target):
    """(identity, query coverage, target coverage) of the best local alignment, BLOSUM62 with gaps 11 and 1."""
    aligner = PairwiseAligner(mode="local", open_gap_score=-11, extend_gap_score=-1)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    best = aligner.align(query, target)[0]
    first, second = best.indices
    spans = [(row[row >= 0][-1] - row[row >= 0][0] + 1) for row in (first, second)]
    return best.counts().identities / len(first), spans[0] / len(query), spans[1] / len(target)


@pytest.mark.parametrize(
    ("role", "held_out", "removed"),
    [("copy80", "validation0", True), ("test70", "test", True), ("copy45", "validation0", False),
     ("copy20", "validation1", False), ("half", "validation2", False)],
)  # fmt: skip
def test_what_is_removed_is_what_an_independent_aligner_calls_similar(finished, role, held_out, removed):
    sequences = finished.world.representatives
    identity, *coverage = oracle(sequences[finished.names[role]], sequences[finished.names[held_out]])
    assert (identity >= 0.5 and min(coverage) >= 0.8) == removed
    assert (finished.side(role) == REMOVED) == removed


def test_hits_agree_with_the_oracle(finished):
    hits = pl.concat([pl.read_parquet(path) for path in sorted(finished.path("hits").glob("*.parquet"))])
    order = sorted(finished.world.representatives, key=finished.world.index)
    assert len(hits) == 2
    for hit in hits.iter_rows(named=True):
        assert hit["query"] == str(hit["cluster"])
        expected = oracle(*(finished.world.representatives[order[hit[name]]] for name in ("cluster", "target")))
        found = (hit["identity"], hit["query_coverage"], hit["target_coverage"])
        assert found == pytest.approx(expected, abs=0.02)
        assert hit["evalue"] < 1e-20


def test_nothing_else_is_removed_and_sides_stay(finished):
    before = pl.read_parquet(finished.directory / "split" / "split.parquet")["side"]
    after = pl.read_parquet(finished.path("split.parquet"))["side"]
    changed = (before != after).arg_true().to_list()
    assert changed == sorted(finished.world.index(finished.names[role]) for role in ("copy80", "test70"))


def test_removed_names_reason_and_evidence_at_both_levels(finished):
    removed = pl.read_parquet(finished.path("removed.parquet"))
    names, members = finished.names, finished.world.members
    rows = {(row[0], row[1]): row[2:] for row in removed.iter_rows()}
    reason, evidence = rows["uniref50", f"UniRef50_{names['copy80']}"]
    assert reason == "similar_to_validation"
    assert evidence.startswith("identity 0.8") and evidence.endswith(f" to UniRef50_{names['validation0']}")
    assert rows["uniref50", f"UniRef50_{names['test70']}"][0] == "similar_to_test"
    for role in ("copy80", "test70"):
        for member in members[names[role]]:
            assert rows["uniref90", f"UniRef90_{member}"] == ("cluster_removed", f"UniRef50_{names[role]}")
    assert len(removed) == 2 + sum(len(members[names[role]]) for role in ("copy80", "test70"))
    assert removed.equals(removed.sort("level", "reason", "id"))


def test_counts_add_up_at_both_levels(finished):
    counts = json.loads(finished.path("counts.json").read_text())
    total = len(finished.world.representatives)
    assert counts["levels"]["uniref50"] == {
        "in": total, "kept": total - 2, "removed": {"similar_to_test": 1, "similar_to_validation": 1},
    }  # fmt: skip
    members = sum(len(found) for found in finished.world.members.values())
    assert counts["levels"]["uniref90"] == {"in": members, "kept": members - 3, "removed": {"cluster_removed": 3}}
    kept = sum(side["clusters"] for side in counts["sides"].values())
    assert kept == total - 2


def test_identity_before_and_after(finished):
    identity = json.loads(finished.path("identity.json").read_text())
    for when in ("before", "after"):
        assert sum(identity[when]["counts"]) + identity[when]["none"] == identity["validation_clusters"] == 6
        assert len(identity[when]["counts"]) == len(identity["edges"]) - 1
    above = [edge >= 0.5 for edge in identity["edges"][:-1]]
    counted = {when: sum(n for n, high in zip(identity[when]["counts"], above, strict=True) if high)
               for when in ("before", "after")}  # fmt: skip
    assert counted == {"before": 1, "after": 0}
    near = identity["edges"].index(0.44)  # copy45 is the nearest now, not copy80
    assert sum(identity["after"]["counts"][near - 2 : near + 3]) == 1
    settings = identity["audit"].pop("settings")
    assert (settings["sensitivity"], settings["max_seqs"], settings["evalue"]) == (7.5, 1000, 1e-3)
    assert identity["search"] | {"sensitivity": 7.5, "max_seqs": 1000} == settings
    assert (identity["search"]["direction"], identity["search"]["sensitivity"]) == ("smaller", 6.5)
    sides = pl.read_parquet(finished.path("split.parquet"))["side"]
    members = sum(
        len(found) for name, found in finished.world.members.items() if sides[finished.world.index(name)] == 0
    )
    assert identity["audit"] == {
        "policy": "error", "sample": 1000, "hits": 0, "clusters": 0, "sampled_clusters": 56,
        "searched": {"share": 1.0, "clusters": 56, "similar": 0, "train": 56, "low": 0, "high": 0},
        "sampled_clusters_missed": 0, "sampled_sequences": members + 1,  # one representative is no member
        "sampled_against": 8, "sampled_pairs": identity["audit"]["sampled_pairs"],
        "members_left": {
            "sampled": members, "similar": 1, "train": members,
            "clusters": {"sampled": 56, "similar": 1, "train": 56, "low": 1, "high": 1},
        },
    }  # fmt: skip
    assert 0 < identity["audit"]["sampled_pairs"] < members * 8  # of similar length only
    assert identity["level"] == "representatives"
    assert identity["giants"] == {"train": 0, "held_out": 0, "pairs": 0, "hits": 0}


def test_members_that_are_left_similar_are_counted_where_only_representatives_were_searched(finished):
    """The cluster `member` has a member at 90% of a validation protein, and a representative that is unlike it."""
    (left,) = pl.read_parquet(finished.path("audit.parquet")).iter_rows(named=True)
    index = finished.world.index(finished.names["member"])
    assert (left["cluster"], left["check"], left["query"].split("_")[0]) == (index, "member", str(index))
    assert left["target"] == finished.world.index(finished.names["validation3"])
    assert left["identity"] == pytest.approx(0.9, abs=0.01)
    assert finished.side("member") == 0
    identity = json.loads(finished.path("identity.json").read_text())
    assert "Only the representatives" in summaries.searched_text(identity)
    assert "1 are similar to a held-out sequence; these are all of train." in summaries.sample_text(identity)


def test_the_level_of_the_searches_is_not_claimed_to_be_another(finished):
    for step in (finished.remove, finished.audit):
        with pytest.raises(UserError, match="level is members, but representatives were searched"):
            step(Decontaminate(parts=2))


def test_identity_of_the_test_clusters(finished):
    identity = json.loads(finished.path("identity.json").read_text())
    test, at70 = identity["test"], identity["edges"].index(0.7)
    for when, near in (("before", 1), ("after", 0)):  # test70 is near one of the two, and is removed
        assert sum(test[when]["counts"]) + test[when]["none"] == test["clusters"] == 2
        assert sum(test[when]["counts"][at70 - 2 : at70 + 3]) == near


def test_the_lineage_has_the_options_of_the_searches_too(finished):
    (step,) = lineage.read(finished.path())["steps"]
    assert step["config"] == PUBLISHED.model_dump(mode="json")
    assert step["tools"] == {"mmseqs": tool_version(find_mmseqs())}
    assert step["counts"] == json.loads(finished.path("counts.json").read_text())["levels"]


def test_no_temporary_files_stay(finished):
    assert [path.name for path in finished.path().rglob(".*")] == []


def test_members_are_stricter(stage):
    config = Decontaminate(parts=1)
    assert config.level == "members"
    done = stage.prepare(config)
    members = [len(found) for name, found in stage.world.members.items() if stage.world.sides[name] == 0]
    assert (done.queries, done.targets) == (sum(members) + 1, 8)  # one representative is no member
    stage.search(config)
    stage.remove(config)
    assert stage.audit(config).hits == 0
    assert {role for role in ("copy80", "test70", "member", "half", "copy20") if stage.side(role) == REMOVED} == {
        "copy80", "test70", "member",
    }  # fmt: skip


LOOSE = {"parts": 1, "level": "representatives", "search": {"min_seq_id": 0.95}}


def test_an_audit_hit_fails_the_stage_and_names_the_pair(stage):
    config = Decontaminate(**LOOSE)
    stage.prepare(config)
    stage.search(config)
    stage.remove(config)
    with pytest.raises(UserError) as caught:
        stage.audit(config)
    line = caught.value.line()
    pair = f"UniRef50_{stage.names['copy80']} to UniRef50_{stage.names['validation0']} 0.8"
    assert "2 train clusters" in line and pair in line and "audit_failures: remove" in line
    assert not stage.path("audit.parquet").exists() and not stage.path("identity.json").exists()

    reported = Decontaminate(**LOOSE, audit_failures="report")
    assert stage.audit(reported).clusters == 2
    checks = pl.read_parquet(stage.path("audit.parquet"))["check"].to_list()
    assert sorted(checks) == ["member", "search", "search"]
    assert stage.side("copy80") == 0

    strict = Decontaminate(**LOOSE, audit_failures="remove")
    assert stage.remove(strict).by_audit == 2
    assert stage.audit(strict).hits == 0
    assert stage.side("copy80") == stage.side("test70") == REMOVED
    removed = pl.read_parquet(stage.path("removed.parquet")).filter(level="uniref50")
    assert all(text.endswith("(found by the audit)") for text in removed["evidence"])


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_an_audit_of_a_share_finds_what_an_audit_of_all_finds_in_the_clusters_that_are_drawn(stage, share):
    """A search that is blind below 95% leaves two clusters to the audit."""
    found = {}
    for asked, parts in ((1.0, 1), (share, 1), (share, 3)):
        config = Decontaminate(**LOOSE | {"parts": parts}, audit_share=asked, audit_failures="report", audit_sample=0)
        shutil.rmtree(stage.path(), ignore_errors=True)
        stage.prepare(config)
        stage.search(config)
        stage.remove(config)
        stage.audit(config)
        found[asked, parts] = set(pl.read_parquet(stage.path("audit.parquet"))["cluster"].to_list())
    assert found[1.0, 1] == {stage.world.index(stage.names[role]) for role in ("copy80", "test70")}
    every = np.array(sorted(found[1.0, 1]))
    assert found[share, 1] == found[share, 3] == set(every[audited(share, every)].tolist())
    train = np.flatnonzero(pl.read_parquet(stage.path("split.parquet"))["side"].to_numpy() == 0)
    identity = json.loads(stage.path("identity.json").read_text())
    searched = identity["audit"]["searched"]
    similar = len(found[share, 1])
    expected = {"share": share, "clusters": int(audited(share, train).sum()), "similar": similar, "train": len(train)}
    assert expected.items() <= searched.items()
    low, high = binomtest(similar, searched["clusters"]).proportion_ci(method="wilson")
    assert searched["low"] == max(similar, math.floor(low * len(train)))
    assert searched["high"] == math.ceil(high * len(train))
    said = f"found a hit in {similar} of {searched['clusters']} clusters, drawn at random from the 58 of train"
    assert said in summaries.audit_text(identity)


def test_a_draw_is_of_the_size_that_was_asked_for():
    numbers = np.arange(200_000)
    assert audited(1, numbers).all()
    for share in (0.001, 0.05, 0.5, 1 - 2**-53):
        assert audited(share, numbers).mean() == pytest.approx(share, rel=0.15, abs=1e-9)
    assert not (audited(0.05, numbers) & ~audited(0.5, numbers)).any(), "a larger share has all of a smaller one"


def test_hits_of_a_share_are_not_removed(stage):
    with pytest.raises(ValueError, match=r"audit_share 0\.5 would remove what happens to be drawn"):
        Decontaminate(audit_failures="remove", audit_share=0.5)
    config = Decontaminate(**LOOSE, audit_share=0.5)
    stage.prepare(config)
    stage.search(config)
    with pytest.raises(UserError, match=r"hits: audit_failures is remove, but .* a share of 0\.5 .*audit_share: 1"):
        stage.remove(Decontaminate(**LOOSE, audit_failures="remove"))


def copy_results(finished, stage):
    """Give `stage` the parts' results of `finished`, which is the same world."""
    for kind in KINDS:
        shutil.copytree(finished.path(kind), stage.path(kind))


def test_the_exact_check_finds_what_both_searches_missed(finished, stage):
    copy_results(finished, stage)
    for path in stage.path("hits").iterdir():  # as if the prefilter had seen nothing
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    config = PUBLISHED
    stage.remove(config)
    with pytest.raises(UserError, match=r"2 train clusters .*raise decontaminate\.search\.sensitivity"):
        stage.audit(config)


def test_a_split_that_does_not_follow_the_hits_fails_the_audit(finished, stage):
    copy_results(finished, stage)
    config = PUBLISHED
    stage.remove(config)
    side = pl.read_parquet(stage.path("split.parquet"))
    side.select(pl.col("side").replace(REMOVED, 0)).write_parquet(stage.path("split.parquet"))
    with pytest.raises(UserError, match="a cluster with a hit is still in train"):
        stage.audit(config)


def test_hits_of_another_split_are_refused(finished, stage):
    config = PUBLISHED
    copy_results(finished, stage)
    side = pl.read_parquet(stage.directory / "split" / "split.parquet")
    flipped = side.select(pl.when(pl.col("side") == 1).then(0).when(pl.col("side") == 0).then(1).otherwise(2))
    flipped.cast(pl.UInt8).rename({"literal": "side"}).write_parquet(stage.directory / "split" / "split.parquet")
    with pytest.raises(UserError, match="another split"):
        stage.remove(config)
    assert not stage.path("split.parquet").exists()


def results(stage):
    return {kind: stage.path(kind, "part-000-of-002.parquet").read_bytes() for kind in KINDS}


def test_results_do_not_depend_on_threads(finished, stage):
    config = PUBLISHED
    stage.prepare(config)
    stage.search(config, range(1), threads=2)
    assert results(stage) == results(finished)


def test_the_options_of_the_searches_are_recorded_with_the_hits_and_must_be_the_same_in_all_parts(finished, stage):
    config = PUBLISHED
    given = config.model_copy(update={"search": Search(sensitivity=3), "audit_failures": "report"})
    mmseqs, whole = read_searched(given, finished.path())
    assert whole == config.model_copy(update={"audit_failures": "report"})
    assert whole.search.sensitivity == 6.5 and whole.audit.sensitivity == 7.5
    assert mmseqs == tool_version(find_mmseqs())
    stage.prepare(config)
    stage.search(config, range(1))
    stage.search(config.model_copy(update={"search": Search(sensitivity=5)}), range(1, 2))
    with pytest.raises(UserError, match="the parts were searched with different options"):
        read_searched(config, stage.path())


def test_a_missing_part_stops_the_removal(finished, stage):
    shutil.copytree(finished.path("hits"), stage.path("hits"))
    stage.path("hits", "part-001-of-002.parquet").unlink()
    with pytest.raises(UserError, match=r"part-001-of-002\.parquet: no such file; run .*--part 1"):
        stage.remove(PUBLISHED)
    assert not stage.path("split.parquet").exists()
