"""Proteins too long for MMseqs2's 16-bit scores: it drops the pair, we find it; the exact sample does not trust it."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from unirefine.config import Decontaminate, Search
from unirefine.core import summaries
from unirefine.core.exact import align_all
from unirefine.core.giants import FULL_SCORE, is_giant
from unirefine.core.smith_waterman import bits
from unirefine.decontaminate import search
from unirefine.errors import UserError
from unirefine.similarity.align import SCHEMA, align
from unirefine.similarity.giants import Giants, align_giants, limits_of, to_frame, with_giants
from unirefine.tools import find_mmseqs

CONFIG = Decontaminate(parts=1)
LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)


@pytest.fixture(scope="module")
def long_run(new_stage, tmp_path_factory):
    """A giant on each side, 97% identical, and a pair of 2,000 residues that is as similar; all steps but the audit."""
    random, planted = np.random.default_rng(8), {"other": (0, None)}
    for role, length in (("giant", 8000), ("control", 2000)):
        first = random.choice(LETTERS, length)
        second = first.copy()
        places = random.random(length) > 0.97
        second[places] = random.choice(LETTERS, int(places.sum()))
        planted[f"{role}_held_out"] = 1, first.tobytes().decode()
        planted[role] = 0, second.tobytes().decode()
    run = new_stage(planted, tmp_path_factory.mktemp("long"))
    run.prepare(CONFIG)
    run.search(CONFIG)
    run.remove(CONFIG)
    return run


def queries(run):
    return run.path("queries", "part-000-of-001.fasta"), run.path("target.fasta")


def test_mmseqs2_finds_the_control_and_loses_the_giants(long_run, tmp_path):
    """If this fails, MMseqs2 has learnt to align giants: see whether align_giants is still needed."""
    alone = align(find_mmseqs(), *queries(long_run), Search(), work=tmp_path, threads=1)
    assert alone["cluster"].to_list() == [long_run.world.index(long_run.names["control"])]
    cut = align(find_mmseqs(), *queries(long_run), Search(coverage=0.1), work=tmp_path, threads=1)
    giant = cut.filter(cluster=long_run.world.index(long_run.names["giant"]))
    assert giant["query_coverage"][0] < 0.8 and giant["bits"][0] == pytest.approx(bits(FULL_SCORE), abs=2)


def test_the_giant_is_removed_and_counted(long_run):
    assert long_run.side("giant") == long_run.side("control") == 255
    hits = pl.read_parquet(long_run.path("hits", "part-000-of-001.parquet"))
    hit = hits.filter(cluster=long_run.world.index(long_run.names["giant"]))
    assert hit["target"].to_list() == [long_run.world.index(long_run.names["giant_held_out"])]
    first, second = (long_run.world.representatives[long_run.names[name]] for name in ("giant", "giant_held_out"))
    same = np.mean([a == b for a, b in zip(first, second, strict=True)])
    assert hit["identity"][0] == pytest.approx(same, abs=0.005)
    assert min(hit["query_coverage"][0], hit["target_coverage"][0]) > 0.99
    counts = json.loads(long_run.path("counts.json").read_text())
    assert counts["giants"] == {"train": 1, "held_out": 1, "pairs": 1, "hits": 1}


def test_only_pairs_of_giants_are_aligned_apart(long_run):
    apart = align_giants(*queries(long_run), Search(), threads=1)
    assert apart.alignments["query"].n_unique() == apart.pairs == 1
    assert not is_giant(long_run.world.representatives[long_run.names["control"]].encode())


def test_what_mmseqs2_says_of_giants_is_replaced():
    rows = [(1, "1_5", 2, 0.4, 0.8, 0.8, 0.0, 12938.0), (1, "1_6", 2, 0.4, 0.8, 0.8, 0.0, 90.0)]
    theirs = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    ours = theirs.head(1).with_columns(identity=pl.lit(0.7, pl.Float32))
    assert with_giants(theirs, ours)["identity"].to_list() == pytest.approx([0.7, 0.4])
    assert with_giants(theirs, ours.clear()).equals(theirs)


def test_the_exact_sample_finds_what_mmseqs2_cannot_align(long_run, tmp_path, monkeypatch):
    """As if nobody had known of the limit: search and audit pass, the sample does not."""
    run = type(long_run)(tmp_path / "run", long_run.names, long_run.world)
    shutil.copytree(long_run.directory, run.directory)
    nothing = Giants(pl.DataFrame(schema=SCHEMA), 0, 0, 0)
    monkeypatch.setattr(search, "align_giants", lambda query, target, settings, threads: nothing)
    run.search(CONFIG)
    assert pq.ParquetFile(run.path("audit", "part-000-of-001.parquet")).metadata.num_rows == 0
    run.remove(CONFIG)
    assert run.side("giant") == 0
    pair = f"UniRef50_{run.names['giant']} to UniRef50_{run.names['giant_held_out']} 0.9"
    with pytest.raises(UserError, match=pair):
        run.audit(CONFIG)


def test_the_audit_of_what_is_left_states_the_giants(long_run):
    done = long_run.audit(CONFIG)
    assert (done.hits, done.sample_missed, done.similar_members) == (0, 0, 0)
    identity = json.loads(long_run.path("identity.json").read_text())
    assert identity["giants"] == {"train": 1, "held_out": 1, "pairs": 1, "hits": 1}
    text = summaries.searched_text(identity)
    assert text.startswith("Every member of the train clusters")
    assert "1 pairs of them were aligned by an exact aligner, 1 are hits." in text


def test_the_exact_aligner_agrees_with_mmseqs2_on_proteins_of_usual_length(tmp_path):
    """Identity, coverage, E-value and bits of pairs with gaps and odd compositions, around the thresholds too."""
    random, sequences = np.random.default_rng(12), {"query": [], "target": []}
    for at in range(60):
        letters = LETTERS if at % 3 else random.choice(LETTERS, 9)
        first = random.choice(letters, int(random.integers(80, 400)))
        keep = random.random(len(first)) < random.uniform(0.35, 0.95)
        second = np.where(keep, first, random.choice(LETTERS, len(first))).tobytes()
        cut, gap = int(random.integers(20, 60)), int(random.integers(1, 9))
        sequences["query"].append(first.tobytes())
        sequences["target"].append(second[:cut] + second[cut + gap :])
    for name, texts in sequences.items():
        lines = [f">{at}_0\n{text.decode()}\n" for at, text in enumerate(texts)]
        (tmp_path / name).write_text("".join(lines))
    theirs = align(find_mmseqs(), tmp_path / "query", tmp_path / "target", Search(), work=tmp_path, threads=1)
    frames = []
    for most in (True, False):
        found, _ = align_all(sequences["query"], sequences["target"], limits_of(Search()), most=most)
        names = [f"{at}_0" for at in range(60)]
        frames.append(to_frame(found, names, names))
    for ours in frames:
        assert ours.select("query", "target").equals(theirs.select("query", "target"))
        assert (ours["bits"] - theirs["bits"]).abs().max() <= 0.51  # which MMseqs2 rounds
        # MMseqs2 writes four digits
        assert ((ours["evalue"] / theirs["evalue"]).log().abs() < 1e-3).all()
        both = zip(ours.iter_rows(named=True), theirs.iter_rows(named=True), strict=True)
        near = [all(abs(a[c] - b[c]) < 1e-3 for c in ("query_coverage", "target_coverage")) for a, b in both]
        assert sum(near) >= 0.95 * len(near)  # of several best alignments it may take a longer one
    most, fewest = (frame["identity"] for frame in frames)
    assert len(theirs) > 45
    assert ((fewest <= theirs["identity"] + 1e-3) & (theirs["identity"] <= most + 1e-3)).mean() >= 0.95
