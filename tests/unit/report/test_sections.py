"""The sections' texts and pictures, from the files' content."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.config import Decontaminate, Search
from unirefine.files.atomic import write_json
from unirefine.report.continued import continued_sections
from unirefine.report.ledger import Entry
from unirefine.report.origin import release_section
from unirefine.report.perplexity import breakdown_section, evaluation_section
from unirefine.report.sections import removal_section, shape_section, shard_section, split_section
from unirefine.report.training import baseline_losses, training_section

EDGES = [i / 50 for i in range(51)]
CONFIG = Decontaminate()


def counts(*bins):
    return {"counts": [bins.count(i) for i in range(50)], "none": 3}


LEFT = {"sampled": 21, "similar": 3, "train": 900,
        "clusters": {"sampled": 9, "similar": 2, "train": 400, "low": 25, "high": 219}}  # fmt: skip
SEARCHED = {"share": 1, "clusters": 400, "similar": 0, "train": 400, "low": 0, "high": 0}
NO_GIANTS = dict.fromkeys(("train", "held_out", "pairs", "hits"), 0)


def identity(test=None, level="members", giants=NO_GIANTS):
    audit = {"settings": CONFIG.audit.model_dump(), "hits": 0, "sampled_clusters": 9, "sampled_clusters_missed": 1,
             "members_left": LEFT, "searched": SEARCHED}  # fmt: skip
    return {
        "level": level, "giants": giants, "threshold": 0.5,
        "coverage": 0.8, "edges": EDGES, "validation_clusters": 7, "before": counts(3, 24, 25, 40),
        "after": counts(3, 24), "test": test, "search": CONFIG.search.model_dump(), "audit": audit,
    }  # fmt: skip


def test_the_split_section_names_the_settings_of_both_searches():
    section = split_section(identity())
    assert [picture.name for picture in section.figures] == ["identity"]
    searched, validation, audit = section.text
    assert searched == "Every member of the train clusters was searched against every member of the held-out clusters."
    assert "Of 7 validation clusters, 2 had a train sequence at or above 50% identity over 80% of both" in validation
    assert "0 after it; the search found no train sequence at all for 3 before, 3 after." in validation
    assert "(-s 7.5, after -s 6.5), found 0 hits. Of 9" in audit
    facts = identity()
    facts["audit"]["searched"] = {"share": 0.1, "clusters": 42, "similar": 0, "train": 400, "low": 0, "high": 34}
    drawn = "found a hit in 0 of 42 clusters, drawn at random from the 400 of train, so 0 to 34 of all have one"
    assert f"(-s 7.5, after -s 6.5), {drawn} (95% interval)." in split_section(facts).text[2]
    published = Search(direction="published", sensitivity=7).model_dump(mode="json")
    assert "(-s 7.5, after -s 7 --max-seqs 300)" in split_section(identity() | {"search": published}).text[2]
    assert "Of 9 train clusters" in audit and "the searches had missed 1." in audit
    assert "Of the 21 members of these clusters, 3 are similar to a held-out sequence, in 2 clusters" in audit
    assert "of all 400 train clusters, 25 to 219 have such a member (95% interval)." in audit


def test_the_split_section_claims_no_more_than_was_searched():
    giants = {"train": 4, "held_out": 2, "pairs": 5, "hits": 1}
    searched, validation, _audit = split_section(identity(level="representatives", giants=giants)).text
    assert searched.startswith(
        "Only the representatives of the clusters were searched, not the members that training draws."
    )
    assert "4 train and 2 held-out proteins are too long for MMseqs2's scores: 5 pairs of them were aligned" in searched
    assert "2 had a train representative at or above" in validation


def measured(value, ratio=None):
    found = {"residues": 80, "perplexity": value, "interval": None if value is None else [value - 1, value + 1]}
    return found if ratio is None else found | {"ratio": ratio, "ratio_interval": [ratio - 0.01, ratio + 0.01]}


def evaluation():
    ours = {"key": "ours", "model": "ours", "perplexity": 14.0, "interval": [13.0, 15.0], "hidden": measured(17.0)}
    ours |= {"kept": measured(1.7), "random": measured(None)}
    theirs = ours | {"key": "huggingface", "model": "theirs", "hidden": measured(17.0, 1.0)}
    table = [ours, theirs, {"key": "bigram", "model": "bigram", "hidden": measured(17.5, 0.995)}]
    residue = {"bin": "A", "residues": 7, "ours": 10.0, "huggingface": 10.0, "bigram": 11.0, "clusters": 2}
    parity = {"model": "m", "huggingface": 14.0, "ours": 14.0, "published": None, "difference": -2e-8}
    parity |= {"tolerance": 0.002, "largest_nll_difference": {"nats": 1e-6, "id": "P1", "residue": 4}}
    counts = {"masked": 100, "hidden": 80, "kept": 20, "random": 0, "sequences": 5}
    intervals = {"ours": [9.0, 11.0], "huggingface": [9.0, 11.0], "bigram": [10.0, 12.0]}
    breakdowns = {"residue": [residue | {"intervals": intervals}, residue | {"bin": "C", "intervals": None}]}
    return {"table": table, "parity": [parity], "breakdowns": breakdowns} | counts


def test_the_evaluation_section_compares_with_baselines_where_the_residue_is_hidden():
    section = evaluation_section(evaluation())
    compared, kinds = section.tables
    assert compared.rows == [
        ["ours", "14.000", "13.00 to 15.00", "17.000", "16.00 to 18.00", ""],
        ["bigram", "", "", "17.500", "16.50 to 18.50", "0.995 (0.985 to 1.005)"],
    ]
    assert kinds.columns[1::2] == ["hidden (80)", "kept (20)", "random (0)"]
    assert kinds.rows == [["ours", "17.000", "16.00 to 18.00", "1.700", "0.70 to 2.70", "-", "-"]]
    assert "ours is NOT better than any baseline where the residue is hidden: bigram." in section.text[0]


def test_a_continued_model_is_shown_before_and_after():
    def pair(before, after, ratio):
        row = {"residues": 80, "before": measured(before), "after": measured(after)}
        return row | {"ratio": ratio, "ratio_interval": [ratio - 0.01, ratio + 0.01]}

    sets = [
        {"set": "validation", "clusters": 120, "all": pair(9.0, 8.0, 0.9), "hidden": pair(17.0, 15.0, 0.88)},
        {"set": "general", "clusters": 400, "all": pair(9.0, 9.0, 1.0), "hidden": pair(17.0, 18.0, 1.06)},
        {"set": "third", "clusters": 4, "all": pair(9.0, 9.0, 1.0), "hidden": pair(17.0, 17.0, 1.0)},
    ]
    assert continued_sections(evaluation()) == []
    (section,) = continued_sections(evaluation() | {"continued": {"before": "a/model", "sets": sets}})
    assert section.text[0] == (
        "Continued from a/model, perplexity of hidden residues: "
        "validation 17.000 (16.00 to 18.00) before, 15.000 (14.00 to 16.00) after, better, "
        "ratio 0.880 (0.870 to 0.890); "
        "general 17.000 (16.00 to 18.00) before, 18.000 (17.00 to 19.00) after, worse (forgetting), "
        "ratio 1.060 (1.050 to 1.070); third 17.000 (16.00 to 18.00) before, 17.000 (16.00 to 18.00) after, "
        "no clear change, ratio 1.000 (0.990 to 1.010)."
    )
    hidden, everything = section.tables
    assert hidden.rows[0] == [
        "validation", "120", "17.000", "16.00 to 18.00", "15.000", "14.00 to 16.00", "0.880 (0.870 to 0.890)",
    ]  # fmt: skip
    assert everything.rows[2][2:5:2] == ["9.000", "9.000"]
    assert "general, after" in section.figures[0].svg


def test_the_second_engine_is_one_line_of_parity():
    found = evaluation()
    section = evaluation_section(found)
    assert section.text[1] == (
        "Parity of m: passed. Hugging Face's EsmForMaskedLM differs from Megatron-core by 2.0e-08 in perplexity "
        "(tolerance 0.002), and by at most 1.0e-06 nats at a residue (4 of P1)."
    )
    assert "theirs" not in section.figures[0].svg
    found["parity"][0] |= {"difference": None, "huggingface": None, "published": 6.95}
    section = evaluation_section(found)
    assert "no second engine confirms it" in section.text[1]
    assert section.tables[2].rows == [["m", "", "14.000", "6.950", ""]]


def test_breakdowns_have_intervals_and_no_second_engine():
    section = breakdown_section(evaluation(), None)
    assert section.tables[0].columns == ["residue", "hidden", "ours", "95% interval", "bigram", "95% interval"]
    assert section.tables[0].rows == [
        ["A", "7", "10.00", "9.00 to 11.00", "11.00", "10.00 to 12.00"],
        ["C", "7", "10.00", "-", "11.00", "-"],
    ]
    assert "A, ours: 10.00 (9.00 to 11.00), 7 residues" in section.figures[0].svg
    assert "C, bigram: 11.00 (no interval)" in section.figures[0].svg
    assert "run the evaluate stage again" in section.text[0]


def test_baselines_of_the_curve_are_those_of_its_own_residues():
    found = evaluation() | {"training_validation": {"sequences": 4, "hidden": 60, "losses": {"bigram": 2.75}}}
    losses, where = baseline_losses(found)
    assert losses == {"bigram": 2.75} and "at the same 60 hidden residues of 4 sequences" in where
    losses, where = baseline_losses(evaluation())
    assert losses == {"bigram": pytest.approx(2.8622, abs=1e-4)} and "of other windows and masks" in where
    final = {"config": {"model": {"preset": "8M"}}, "parameters": 1, "step": 1, "samples": 1, "tokens": 1, "seconds": 1}
    metrics = [{"step": 1, "loss": 2.0, "validation_loss": 2.1, "tokens_per_second": 5, "padded_tokens_per_second": 5}]
    without = training_section(final, metrics, losses, where)
    assert [picture.name for picture in without.figures] == ["loss", "throughput"], "baselines are of hidden residues"
    metrics[0]["validation_hidden_loss"] = 2.2
    section = training_section(final, metrics, losses, where)
    assert not any("Trained on" in text for text in section.text)
    machine = {"after_step": 0, "date": "2026-09-02T10:15:00+00:00", "nodes": 1, "processes": 1, "cpu": "Intel Xeon",
               "cores": 1, "memory_bytes": 8e9, "gpu": None, "gpus": 0}  # fmt: skip
    recorded = training_section(final | {"hardware": [machine]}, metrics, losses, where)
    assert "Trained on 1 core of Intel Xeon, 8.00 GB of memory, 1 process; began 2026-09-02 10:15 UTC." in recorded.text
    assert "bigram: 17.500" in section.figures[1].svg and not any("Further" in text for text in section.text)
    beside = [metrics[-1] | {"validation_loss/general": 2.9, "validation_hidden_loss/general": 2.95}]
    section = training_section(final, metrics + beside, losses, where)
    assert "general, hidden residues: 2.9500" in section.figures[0].svg
    assert any("The dash-dotted curves are further validation sets (general)" in text for text in section.text)


def test_held_out_members_are_not_drawn_among_the_removed():
    entries = [
        Entry(stage="curate", level="uniref90", entered=9, kept=7, removed={"purge_list": 2}),
        Entry(stage="shard", level="uniref90", entered=7, kept=4, removed={"validation_cluster_member": 3}),
    ]
    section = removal_section(entries, None, {"source": "current"})
    assert section.text == ["UniRef90 sequences: 9 in = 4 kept for training + 3 held out + 2 removed."]
    flow, removed = section.figures
    assert (flow.name, removed.name) == ("flow-uniref90", "removed-uniref90")
    assert "member" not in removed.svg and "shard: 3 UniRef90 sequences held out" in flow.svg
    assert [row[2] for row in section.tables[0].rows] == ["9", "2", "3", "4"]


def test_a_test_split_has_its_own_sentence_and_figure():
    test = {"clusters": 5, "before": counts(30, 31, 32), "after": counts(2)}
    section = split_section(identity(test))
    assert [picture.name for picture in section.figures] == ["identity", "identity-test"]
    assert "Of 5 test clusters, 3 had" in section.text[2] and "0 after it;" in section.text[2]
    assert "best identity of a test cluster to train" in section.figures[1].svg


def test_the_release_section_shows_the_published_count_beside_both_of_ours():
    known = {"file": "uniref50.release_note", "what": "entries", "published": "12", "source": "a data card"}
    release = {"source": "archive", "release": "2024_03", "files": [], "entries": {"uniref50": 12}}
    entries = [
        Entry(stage=stage, level="uniref50", entered=12, kept=kept, removed={}) for stage, kept in
        (("records", 12), ("curate", 10), ("cluster", 9))
    ]  # fmt: skip
    _files, counts = release_section(release | {"published": [known]}, entries).tables
    assert counts.rows == [["UniRef50 clusters", "12 (a data card)", "12", "10", "before curation"]]
    assert len(release_section({"source": "fasta", "release": None, "files": []}, entries).tables) == 1


KEPT = [Entry(stage="records", level="uniref50", entered=3, kept=3, removed={})]


@pytest.mark.parametrize(
    ("violations", "text"),
    [
        (None, None),
        ({}, "The entries of the release do not contradict each other."),
        (
            {"uniref50": {"listed_members": 1200}, "uniref90": {"listed_members": 1, "one_source": 2}},
            "Where the release contradicts itself (cluster/violations.parquet):"
            " listed members 1,200 (UniRef50 clusters), listed members 1 (UniRef90 sequences),"
            " one source 2 (UniRef90 sequences).",
        ),
    ],
)
def test_contradictions_of_the_release_are_counted(violations, text):
    assert removal_section(KEPT, violations, {"source": "current"}).text[1:] == ([] if text is None else [text])


def test_an_own_fasta_has_clusters_and_sequences_and_nothing_of_uniref(tmp_path):
    release = {"source": "fasta", "release": None, "files": []}
    entries = [
        Entry(stage="records", level="uniref90", entered=7, kept=7, removed={}),
        Entry(stage="curate", level="uniref90", entered=7, kept=5, removed={"purge_list": 2}),
        Entry(stage="cluster", level="uniref50", entered=3, kept=2, removed={"no_members": 1}),
    ]
    section = removal_section(entries, None, release)
    assert section.text == [
        "Clusters: 3 in = 2 kept for training and validation + 1 removed.",
        "Sequences: 7 in = 5 kept for training and validation + 2 removed.",
    ]
    assert [table.rows[0][1] for table in section.tables] == ["made of them", "in the FASTA"]
    captions = [picture.caption.split(",")[0] for picture in section.figures if picture.name.startswith("removed")]
    assert captions == ["Clusters removed", "Sequences removed"]
    write_json(tmp_path / "shard" / "manifest.json", {"sides": {}})
    membership = pa.table({"length": pa.array([50, 60], pa.int32()), "cluster": pa.array([0, 1], pa.uint32())})
    for directory in ("cluster", "decontaminate"):
        (tmp_path / directory).mkdir()
    pq.write_table(pa.table({"side": pa.array([0, 1], pa.uint8())}), tmp_path / "decontaminate" / "split.parquet")
    pq.write_table(membership, tmp_path / "cluster" / "membership.parquet")
    clusters = membership.append_column("size", pa.array([1, 1], pa.uint32()))
    pq.write_table(clusters, tmp_path / "cluster" / "clusters.parquet")
    shapes = shape_section(tmp_path, release)
    sections = [section, shapes, shard_section(tmp_path, release), release_section(release, entries)]
    for one in sections:
        text = " ".join([one.heading, *one.text, *(table.title for table in one.tables)])
        text += " ".join(picture.svg + picture.caption for picture in one.figures)
        assert "UniRef" not in text and "UniProt" not in text and "elease" not in text
    assert re.findall(r"<title>.*: (.* train)</title>", shapes.figures[0].svg) == ["1 train"], "the other is held out"
    assert "members of a cluster" in shapes.figures[-1].svg
    of_uniref = shape_section(tmp_path, {"source": "current"}).figures[-1].svg
    assert "UniRef90 members of a UniRef50 cluster" in of_uniref
