"""Proteins of decontaminate.against: what is similar to them is removed, or reported, with the reason of its file."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from Bio.SeqIO import parse

from unirefine.config import Decontaminate, parse_config
from unirefine.core.markdown import benchmarks_text
from unirefine.core.summaries import benchmark_rows
from unirefine.errors import UserError
from unirefine.trace.follow import _similar

TRAIN, REMOVED = 0, 255
LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)


def mutated(sequence, identity, seed=1):
    """A copy in which exactly round(identity x length) residues are kept."""
    random = np.random.default_rng(seed)
    raw = np.frombuffer(sequence.encode(), np.uint8).copy()
    for at in random.permutation(len(raw))[: len(raw) - round(identity * len(raw))]:
        raw[at] = random.choice(LETTERS[raw[at] != LETTERS])
    return raw.tobytes().decode()


def write_fasta(path, **sequences):
    path.write_text("".join(f">{name} x\n{sequence}\n" for name, sequence in sequences.items()))


@pytest.fixture
def benched(stage):
    """(stage, config, names): the planted world with three files. Names of the train clusters by what is near them."""
    sequences = stage.world.representatives
    plain = [name for name in sequences if stage.world.sides[name] == TRAIN and len(sequences[name]) > 120][:4]
    wild, lab, far, both = plain
    write_fasta(stage.directory / "wild type$(id).fasta", W1=mutated(sequences[wild], 0.8), W2="MKLVWYHT" * 20)
    write_fasta(stage.directory / "casp.fasta", C1=mutated(sequences[far], 0.75), C2=mutated(sequences[both], 0.6))
    table = {"id": ["L1", "L2"], "sequence": [mutated(sequences[lab], 0.7), mutated(sequences[both], 0.9)]}
    pl.DataFrame(table).write_parquet(stage.directory / "lab.parquet")
    against = [
        {"file": str(stage.directory / "wild type$(id).fasta"), "name": "wild_types"},
        str(stage.directory / "lab.parquet"),
        {"file": str(stage.directory / "casp.fasta"), "name": "casp", "action": "report"},
    ]
    names = {"wild": wild, "lab": lab, "far": far, "both": both}
    return stage, against, names


def run(stage, config):
    stage.prepare(config)
    stage.search(config)
    stage.remove(config)
    stage.audit(config)


@pytest.mark.parametrize("level", ["members", "representatives"])
def test_similar_clusters_are_removed_each_with_the_reason_of_its_file(benched, level):
    stage, against, names = benched
    config = Decontaminate(parts=2, level=level, against=against, audit_sample=1000)
    run(stage, config)
    target = [record.id for record in parse(stage.path("target.fasta"), "fasta")]
    clusters = len(stage.world.representatives)
    suffix = "_0" if level == "members" else ""
    assert target[-6:] == [f"{clusters + number}{suffix}" for number in range(6)]
    side = pl.read_parquet(stage.path("split.parquet"))["side"]
    found = {role: side[stage.world.index(name)] for role, name in names.items()}
    assert found == {"wild": REMOVED, "lab": REMOVED, "both": REMOVED, "far": TRAIN}
    removed = {row["id"]: row for row in pl.read_parquet(stage.path("removed.parquet")).to_dicts()}
    for role, reason, protein in (("wild", "wild_types", "W1"), ("lab", "lab", "L1"), ("both", "lab", "L2")):
        row = removed[f"UniRef50_{names[role]}"]
        assert row["reason"] == f"similar_to_{reason}" and row["evidence"].endswith(f" to {protein} of {reason}")
    assert removed[f"UniRef50_{stage.names['copy80']}"]["reason"] == "similar_to_validation"
    counts = json.loads(stage.path("counts.json").read_text())["levels"]["uniref50"]["removed"]
    assert (counts["similar_to_wild_types"], counts["similar_to_lab"], "similar_to_casp" in counts) == (1, 2, False)

    identity = json.loads(stage.path("identity.json").read_text())
    rows = {row["name"]: row for row in identity["benchmarks"]}
    assert [(row["proteins"], row["removed"], row["similar"]) for row in rows.values()] == [
        (2, 1, 0),
        (2, 2, 0),
        (2, 0, 1),
    ]
    assert [row["before"]["none"] for row in rows.values()] == [1, 0, 0]
    assert [row["after"]["none"] for row in rows.values()] == [2, 2, 1]  # casp's second was near what lab removed
    assert sum(identity["before"]["counts"]) + identity["before"]["none"] == identity["validation_clusters"] == 6
    assert benchmark_rows(identity) == [
        ["wild_types", "2", "1", "0", "1", "0"],
        ["lab", "2", "2", "0", "2", "0"],
        ["casp (reported only)", "2", "2", "1", "0", "1"],
    ]
    assert "| casp (reported only) | 2 | 2 | 1 | 0 | 1 |" in benchmarks_text(identity)
    audit = pl.read_parquet(stage.path("audit.parquet")).filter(pl.col("check") == "report")
    assert audit.select("cluster", "target").rows() == [(stage.world.index(names["far"]), clusters + 4)]
    said = _similar(stage.directory, SimpleNamespace(index=stage.world.index(names["far"])), TRAIN)
    assert said.endswith("found, 1 hit with proteins of decontaminate.against reported")


def test_a_run_without_such_files_says_nothing_of_them(finished):
    assert pl.read_parquet(finished.path("benchmarks.parquet")).is_empty()
    identity = json.loads(finished.path("identity.json").read_text())
    assert "benchmarks" not in identity and benchmark_rows(identity) == [] and benchmarks_text(identity) == ""


def test_the_audit_finds_what_only_it_sees_and_reports_what_is_reported(benched):
    """A looser search: a hit of the audit with a benchmark is an error, or removed; a reported one stays reported."""
    stage, against, names = benched
    loose = {"parts": 1, "level": "representatives", "against": against[::2], "search": {"min_seq_id": 0.95}}
    stage.prepare(Decontaminate(**loose))
    stage.search(Decontaminate(**loose))
    stage.remove(Decontaminate(**loose))
    with pytest.raises(UserError, match=rf"UniRef50_{names['wild']} to W1 of wild_types 0\.8"):
        stage.audit(Decontaminate(**loose))
    strict = Decontaminate(**loose, audit_failures="remove")
    stage.remove(strict)
    stage.audit(strict)
    rows = {row["id"]: row for row in pl.read_parquet(stage.path("removed.parquet")).to_dicts()}
    assert rows[f"UniRef50_{names['wild']}"]["evidence"].endswith("to W1 of wild_types (found by the audit)")
    assert f"UniRef50_{names['far']}" not in rows
    audit = pl.read_parquet(stage.path("audit.parquet"))
    assert (audit["check"] == "report").sum() == 2  # far to C1, both to C2


def test_mistakes_in_one_line(benched, monkeypatch):
    stage, against, _names = benched
    with pytest.raises(UserError, match="no such file"):
        stage.prepare(Decontaminate(parts=1, against=["missing.fasta"]))
    (stage.directory / "genes.fasta").write_text(f">A\n{'ACGTTGCA' * 10}\n")
    with pytest.raises(UserError, match="nucleotides"):
        stage.prepare(Decontaminate(parts=1, against=[str(stage.directory / "genes.fasta")]))
    stage.prepare(Decontaminate(parts=1, against=against))
    for other in ((), against[:1], [{"file": "x", "name": name} for name in ("wild_types", "lab", "casp")]):
        with pytest.raises(UserError, match=r"other files than decontaminate\.against names"):
            stage.search(Decontaminate(parts=1, against=other))


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (["a.fasta", "b/a.fa.gz"], "the name 'a' is there already"),
        (["test.fasta"], "the name 'test' is there already"),
        ([{"file": "a.fasta", "action": "keep"}], "against.0.action"),
        ([{"file": "a.fasta", "actoin": "report"}], "did you mean 'action'"),
        ([{"name": "a"}], "against.0.file"),
        ([".fasta"], "against.0.name"),
    ],
)
def test_entries_that_are_refused(against, message):
    with pytest.raises(UserError) as raised:
        parse_config({"decontaminate": {"against": against}})
    assert message in raised.value.line()
