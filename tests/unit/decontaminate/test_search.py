"""One part: the same hits as the published command, and failures of MMseqs2 or the input."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from unirefine.cli.main import main
from unirefine.config import Decontaminate, Search
from unirefine.errors import UserError
from unirefine.similarity.align import SCHEMA, hits_among

PUBLISHED_LEVEL = Decontaminate(parts=1, level="representatives")


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_a_threshold_of_two_decimals_survives_identities_cut_to_three(hundredths):
    """Every identity k / n that MMseqs2 can write is on the same side of the threshold as in MMseqs2's own check."""
    matches, length = np.meshgrid(np.arange(0, 400), np.arange(1, 400))
    exact = matches.astype(np.float32) / length.astype(np.float32)
    valid = exact < 1
    written = (exact * np.float32(1000)).astype(np.int64)  # its way of writing, in single precision
    accepted = exact >= np.float32(hundredths / 100) - np.finfo(np.float32).eps
    frame = pl.DataFrame({"identity": (written[valid] / 1000).astype(np.float32), "accepted": accepted[valid]})
    kept = hits_among(frame, Search(min_seq_id=hundredths / 100))
    assert kept["accepted"].all() and len(kept) == frame["accepted"].sum()


def fake_mmseqs(directory, body):
    path = directory / "mmseqs"
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n")
    path.chmod(0o755)
    return str(path)


def search_command(stage, mmseqs, part=0):
    directory = str(stage.path())
    return ["decontaminate", "search", "--directory", directory, "--part", str(part), "--mmseqs", mmseqs,
            "--config", '{"parts": 1}']  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('Input database is broken', file=sys.stderr); sys.exit(1)", "Input database is broken"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ],
)
def test_an_mmseqs_that_fails_is_one_line_and_leaves_nothing(stage, capfd, body, message):
    stage.prepare(PUBLISHED_LEVEL)
    capfd.readouterr()
    assert main(search_command(stage, fake_mmseqs(stage.directory, body))) == 1
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and "mmseqs" in line and message in line
    left = [".search-000.lock", "benchmarks.parquet", "queries", "target.fasta"]
    assert sorted(path.name for path in stage.path().iterdir()) == left


def test_a_killed_search_leaves_no_result_and_its_directory_goes_with_the_next(stage):
    stage.prepare(PUBLISHED_LEVEL)
    slow = fake_mmseqs(stage.directory, "time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-m", "unirefine.cli.main", *search_command(stage, slow)])
    for _ in range(600):
        if list(stage.path().glob(".search-part-000-of-001.*.tmp/mmseqs")):
            break
        time.sleep(0.05)
    (left,) = stage.path().glob(".search-part-000-of-001.*.tmp")
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    process.kill()
    process.wait()
    for child in children.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    assert left.exists() and not stage.path("hits").exists()
    (left / "mmseqs" / "query").write_text("torn")
    stage.search(PUBLISHED_LEVEL)
    assert not left.exists()
    assert len(pl.read_parquet(stage.path("hits", "part-000-of-001.parquet"))) == 2


def test_empty_parts_and_no_targets(stage):
    config = Decontaminate(parts=200)  # most parts have no cluster
    stage.prepare(config)
    empty = next(p for p in range(200) if stage.path("queries", f"part-{p:03d}-of-200.fasta").stat().st_size == 0)
    full = next(p for p in range(200) if stage.path("queries", f"part-{p:03d}-of-200.fasta").stat().st_size)
    stage.path("target.fasta").write_text("")
    for part in (empty, full):
        (found,) = stage.search(config, range(part, part + 1))
        assert (found.hits, found.audit_hits) == (0, 0)
        hits = pl.read_parquet(stage.path("hits", f"part-{part:03d}-of-200.parquet"))
        assert hits.is_empty() and hits.schema == SCHEMA


def test_a_part_without_anything_left_after_the_search(stage):
    config = PUBLISHED_LEVEL
    stage.prepare(config)
    shutil.copy(stage.path("target.fasta"), stage.path("queries", "part-000-of-001.fasta"))
    (found,) = stage.search(config)
    assert (found.clusters, found.audit_clusters) == (8, 0)


@pytest.mark.parametrize(
    ("part", "message"),
    [(1, "parts are 0 to 0"), (-1, "parts are 0 to 0"), (0, "run `unirefine decontaminate prepare`")],
)
def test_a_part_that_is_not_there(stage, part, message):
    with pytest.raises(UserError, match=message):
        stage.search(PUBLISHED_LEVEL, range(part, part + 1))


def test_a_threshold_of_three_decimals_is_refused():
    with pytest.raises(ValueError, match=r"0\.502 has more than two decimals.*nearest: 0\.5"):
        Search(min_seq_id=0.502)
