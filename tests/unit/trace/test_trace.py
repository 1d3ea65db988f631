"""`unirefine trace` on a small run that the stages made; only the hits of MMseqs2 are written by the test."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from unirefine.cli.main import main
from unirefine.decontaminate import inputs
from unirefine.decontaminate.search import write_hits, write_nearest
from unirefine.similarity.align import SCHEMA

LETTERS = "LAGVSERTIDPKQNFYMHWC"
CLUSTERS = 12
SEARCHED = {inputs.SEARCHED: {"mmseqs": "18", "level": "members", "search": {}, "audit": {}, "audit_share": 1}}
PURGED, TOO_SHORT = "P00003", "Q00400"  # a cluster, and a member of cluster 4


def members_of(cluster: int) -> list[str]:
    """Member accessions: the cluster's own and, in two of three, others."""
    return [f"P{cluster:05d}"] + [f"Q{cluster:03d}{i:02d}" for i in range(cluster % 3)]


def write_release(directory: Path) -> dict[str, str]:
    """UniRef FASTA of both levels and the idmapping; returns the sequences by accession."""
    random = np.random.default_rng(0)
    sequences = {}
    for cluster in range(CLUSTERS):
        for name in members_of(cluster):
            length = 12 if name == TOO_SHORT else int(random.integers(40, 90))
            sequences[name] = "".join(random.choice(list(LETTERS), length))
    directory.mkdir()
    for level, names in (
        ("UniRef50", [f"P{cluster:05d}" for cluster in range(CLUSTERS)]),
        ("UniRef90", [name for cluster in range(CLUSTERS) for name in members_of(cluster)]),
    ):
        text = "".join(
            f">{level}_{name} protein n=1 Tax=Homo sapiens TaxID=9606 RepID={name}_HUMAN\n{sequences[name]}\n"
            for name in names
        )
        (directory / f"{level.lower()}.fasta.gz").write_bytes(gzip.compress(text.encode()))
    lines = []
    for cluster in range(CLUSTERS):
        for name in members_of(cluster):
            columns = [""] * 22
            columns[0], columns[8], columns[9] = name, f"UniRef90_{name}", f"UniRef50_P{cluster:05d}"
            lines.append("\t".join(columns))
    (directory / "idmapping_selected.tab").write_text("\n".join(lines) + "\n")
    (directory / "release.json").write_text(json.dumps({"source": "current", "release": "2026_03", "files": []}))
    return sequences


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Directory of a finished run."""
    results = tmp_path_factory.mktemp("run")
    at = {name: str(results / name) for name in ("records", "curate", "cluster", "split", "decontaminate", "shard")}
    release = results / "release"
    write_release(release)
    (results / "purge.txt").write_text(PURGED + "\n")

    def stage(*arguments: str) -> None:
        assert main([*arguments]) == 0

    for level in ("uniref50", "uniref90"):
        stage("records", "--level", level, "--input", str(release / f"{level}.fasta.gz"), "--output", at["records"],
              "--set", "parts=2")  # fmt: skip
    stage("curate", "--records", at["records"], "--levels", "uniref50", "uniref90", "--output", at["curate"],
          "--purge-list", str(results / "purge.txt"), "--set", "min_length=20")  # fmt: skip
    stage("cluster", "--records", at["records"], "--curated", at["curate"], "--output", at["cluster"],
          "--idmapping", str(release / "idmapping_selected.tab"))  # fmt: skip
    stage("split", "--clusters", at["cluster"], "--output", at["split"], "--set", "validation_count=2")
    side = pl.read_parquet(results / "split" / "split.parquet")["side"]
    hit, target = (side == 0).arg_true()[0], (side == 1).arg_true()[0]
    hits = pl.DataFrame([(hit, str(hit), target, 0.83, 0.9, 0.95, 1e-30, 150.0)], schema=SCHEMA, orient="row")
    parts = {"hits": hits, "audit": hits.clear()}
    for kind, frame in parts.items():
        write_hits(results / "decontaminate" / kind / "part-000-of-001.parquet", frame, SEARCHED)
    write_nearest(results / "decontaminate/nearest/part-000-of-001.parquet", hits, hits.clear(), hits, hits.clear())
    inputs = ["--directory", at["decontaminate"], "--records", at["records"], "--clusters", at["cluster"],
              "--split", at["split"], "--config", '{"parts": 1, "audit_sample": 0}']  # fmt: skip
    stage("decontaminate", "remove", *inputs)
    stage("decontaminate", "audit", *inputs)
    stage("shard", "build", "--records", at["records"], "--clusters", at["cluster"],
          "--split", str(results / "decontaminate" / "split.parquet"), "--release", str(release / "release.json"),
          "--output", at["shard"], "--set", "parts=2")  # fmt: skip
    return results


@pytest.fixture
def sides(run):
    """Final side by cluster number."""
    keys = pl.read_parquet(run / "cluster" / "clusters.parquet")["row"]  # record order is cluster order here
    return dict(zip(keys.to_list(), pl.read_parquet(run / "decontaminate" / "split.parquet")["side"], strict=True))


def trace(capsys, run, name):
    """Steps of an id: stage -> text."""
    capsys.readouterr()
    assert main(["trace", name, "--results", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line[15:] for line in lines}


def first(sides, side, members=1):
    """A cluster of a side that has so many members."""
    return next(c for c, s in sides.items() if s == side and len(members_of(c)) == members)


def test_a_train_member_is_found_at_its_byte(run, sides, capsys, tmp_path):
    cluster = first(sides, 0, 3)
    name = members_of(cluster)[1]
    steps = trace(capsys, run, f"UniRef90_{name}")
    assert list(steps) == ["release", "records", "curate", "cluster", "split", "decontaminate", "shard"]
    assert steps["release"] == "2026_03 (current)"
    assert "residues, 1 member, representative" in steps["records"] and "taxon 9606" in steps["records"]
    assert steps["cluster"].startswith(f"in UniRef50_P{cluster:05d}, cluster ")
    assert steps["cluster"].endswith(", 3 members")
    assert steps["split"].startswith("train, hash ")
    assert steps["decontaminate"] == "kept, no similar held-out sequence found"
    shard, _, number, _, byte, _, file = steps["shard"].replace(",", "").split()
    assert file == f"{shard}.bin"
    assert main(["shard", "cat", f"UniRef90_{name}", "--shards", str(run / "shard")]) == 0
    header, *sequence = capsys.readouterr().out.splitlines()
    assert f"{shard}.bin offset={byte}" in header
    assert "".join(sequence) == write_release(tmp_path / "release")[name]
    assert int(number) >= 0
    for spelling in (name, f"sp|{name}.2|X_Y", f'"uniref90_{name.lower()}",'):
        assert main(["shard", "cat", spelling, "--shards", str(run / "shard")]) == 0
        assert capsys.readouterr().out.splitlines() == [header, *sequence]


def test_a_cluster_in_train_names_its_members(run, sides, capsys):
    cluster = first(sides, 0, 3)
    steps = trace(capsys, run, f"UniRef50_P{cluster:05d}")
    assert steps["cluster"].startswith(f"is UniRef50_P{cluster:05d}")
    assert "its 3 members from sequence" in steps["shard"]


def test_a_member_of_a_validation_cluster_points_to_the_representative(run, sides, capsys):
    cluster = next(c for c, s in sides.items() if s == 1)
    steps = trace(capsys, run, f"UniRef90_{members_of(cluster)[-1]}")
    assert steps["split"].startswith("validation, hash ")
    assert f"its cluster's representative UniRef50_P{cluster:05d} from sequence" in steps["shard"]


def test_a_validation_cluster_says_how_many_went_because_of_it(run, sides, capsys):
    taken = [trace(capsys, run, f"UniRef50_P{c:05d}")["decontaminate"] for c, s in sides.items() if s == 1]
    assert sorted(taken) == ["kept, 0 train clusters similar to it were removed",
                             "kept, 1 train cluster similar to it was removed"]  # fmt: skip


def test_what_decontaminate_removed_says_why_at_both_levels(run, sides, capsys):
    cluster = next(c for c, s in sides.items() if s == 255)
    steps = trace(capsys, run, f"UniRef50_P{cluster:05d}")
    assert list(steps)[-1] == "decontaminate"
    assert steps["decontaminate"].startswith("removed: similar_to_validation (identity 0.830 to UniRef50_P")
    steps = trace(capsys, run, f"UniRef90_P{cluster:05d}")
    assert f"cluster_removed (UniRef50_P{cluster:05d})" in steps["decontaminate"]
    assert "removed: similar_to_validation (identity 0.830 to UniRef50_P" in steps["decontaminate"]
    assert steps["split"].startswith("train")


def test_what_curate_removed_takes_its_members_along(run, capsys):
    steps = trace(capsys, run, f"UniRef50_{PURGED}")
    assert list(steps)[-1] == "curate" and steps["curate"].startswith("removed: purge_list (")
    steps = trace(capsys, run, TOO_SHORT)  # a bare accession
    assert list(steps)[-1] == "curate" and "12" in steps["curate"]


def test_the_lineage_of_the_shards_names_a_release_that_is_elsewhere(run, sides, capsys, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("release"))
    steps = trace(capsys, copy, f"UniRef90_{members_of(first(sides, 0, 3))[0]}")
    assert steps["release"] == "2026_03 (current)"


def test_a_stage_that_has_not_run_is_the_last_line(run, sides, capsys, tmp_path):
    for stage in ("release", "records", "curate", "cluster", "split"):
        (tmp_path / stage).symlink_to(run / stage)
    steps = trace(capsys, tmp_path, f"UniRef90_P{first(sides, 0):05d}")
    assert list(steps.items())[-1] == ("decontaminate", "not run yet")


def test_an_unknown_id_is_one_line(run, capsys):
    assert main(["trace", "UniRef90_A0A000AAA0", "--results", str(run)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "is not in this release" in captured.err
