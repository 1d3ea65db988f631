"""One search: on real families it finds what the published command finds, whichever side asks."""

import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "resources"))
from minisite.site import DEMO

from unirefine.config import Search
from unirefine.core.fasta import read_entries
from unirefine.similarity import align as aligning
from unirefine.similarity import bands, mmseqs
from unirefine.similarity.align import align, hits_among
from unirefine.similarity.memory import prefilter_bytes
from unirefine.tools import find_mmseqs, run_tool

PUBLISHED = {"--min-seq-id": 0.5, "--alignment-mode": 3, "--max-seqs": 300, "-s": 7, "-c": 0.8, "--cov-mode": 0}
OUTPUT = "query,target,fident,qcov,tcov,evalue,bits"
COLUMNS = ["query", "target", "identity", "query_coverage", "target_coverage", "evalue", "bits"]


@pytest.fixture(scope="module")
def families() -> tuple[list[str], list[str]]:
    """(one protein of each family, the others): UniProtKB entries of the same name in different species."""
    by_name = defaultdict(list)
    for path in sorted(DEMO.glob("*.fasta.xz")):
        for header, sequence, _line in read_entries(path):
            by_name[header.split()[0].split("|")[2].split("_")[0]].append(sequence)
    found = [list(f) for f in by_name.values() if 3 <= len(f) <= 8 and max(map(len, f)) <= 250]
    assert len(found) > 80
    return [family.pop() for family in found], [sequence for family in found for sequence in family]


def write(path: Path, sequences: list[str]) -> Path:
    path.write_text("".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    return path


def published(query: Path, target: Path, work: Path) -> set[tuple]:
    """What the published command writes."""
    table = work / "published.tsv"
    flags = [
        word for pair in (PUBLISHED | {"--format-output": OUTPUT, "--threads": 1, "-v": 1}).items() for word in pair
    ]
    run_tool([find_mmseqs(), "easy-search", query, target, table, work / "tmp", *flags])
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    return {(row[0], int(row[1]), *map(np.float32, row[2:5]), float(row[5]), np.float32(row[6])) for row in rows}


def ours(query: Path, target: Path, settings: Search, work: Path, **options) -> set[tuple]:
    found = hits_among(align(find_mmseqs(), query, target, settings, work=work, threads=2, **options), settings)
    types = {"identity": np.float32, "query_coverage": np.float32, "target_coverage": np.float32, "bits": np.float32}
    columns = [[types.get(name, lambda value: value)(value) for value in found[name]] for name in COLUMNS]
    return set(zip(*columns, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("fewer", ["held-out", "train"])
def test_every_row_of_the_published_command_is_found_and_no_false_one(families, tmp_path, monkeypatch, capfd, fewer):
    """The published prefilter masks the held-out sequences, so it misses similar ones of low complexity."""
    log = tmp_path / "mmseqs.log"
    monkeypatch.setattr(mmseqs, "run_tool", lambda argv, **options: run_tool(argv, log=log, **options))
    few, many = write(tmp_path / "few.fasta", families[0]), write(tmp_path / "many.fasta", families[1])
    query, target = (many, few) if fewer == "held-out" else (few, many)
    every = ours(query, target, Search(), tmp_path)
    assert "every pair" in capfd.readouterr().err, "few pairs are aligned without a prefilter"
    monkeypatch.setattr(aligning, "FEW_PAIRS", 0)
    monkeypatch.setattr(bands, "MIN_PAIRS", 6_000 if fewer == "held-out" else 10**9)
    found, known = ours(query, target, Search(), tmp_path), published(query, target, tmp_path)
    assert known <= found <= every
    identities = sorted(row[2] for row in known)
    assert len(known) > 100 and identities[0] < 0.55 and identities[-1] > 0.9
    assert len(found - known) < len(known) / 20
    said = capfd.readouterr().err
    asked = {
        "held-out": "83 held-out sequences against 274 train",
        "train": "83 train sequences against 274 held-out",
    }
    assert f"prefilter {asked[fewer]} ones, in 1.0" in said
    assert re.search(r"align [\d,]+ pairs", said)
    assert bool(re.search("in [23] bands of length", said)) == (fewer == "held-out")
    if fewer == "held-out":
        return  # a band takes less than the estimate
    estimate = re.search(r"Estimated memory consumption: (\d+)M", log.read_text())
    residues = sum(map(len, families[1]))
    assert round(prefilter_bytes(len(families[1]), residues, 2) / 2**20) == pytest.approx(int(estimate[1]), abs=1)


@pytest.mark.parametrize(("mode", "turned"), [(0, 0), (1, 2), (2, 1), (3, 4), (4, 3), (5, 5)])
def test_a_coverage_of_one_side_stays_that_of_its_side(tmp_path, monkeypatch, mode, turned):
    """Which sequences of query and target the prefilter may leave out; both directions ask for the same pairs."""
    given = {}
    monkeypatch.setattr(
        mmseqs.Workspace, "run", lambda self, module, *names, options, **_: given.update({module: options})
    )
    monkeypatch.setattr(mmseqs.Workspace, "lengths", lambda self, name: np.array([100] * sizes[name]))
    tool = mmseqs.Workspace("mmseqs", tmp_path, 1, "test")
    for sizes, expected in (({"query": 9, "target": 5}, turned), ({"query": 5, "target": 9}, mode)):
        aligning._prefilter(tool, sizes["query"], sizes["target"], Search(coverage_mode=mode), {})
        assert (given["prefilter"]["--cov-mode"], given["prefilter"]["--max-seqs"]) == (expected, 9)


@pytest.mark.parametrize(
    ("residues", "evalue", "score"),
    [
        (1, 1e-3, 15),  # MMseqs2's own minimum
        (100_000, 1e-3, 31),
        (388_490, 1e-3, 33),  # in so many one hit of 2,904 has a candidate of 34, and no other one below 47
        (328_360 * 350, 1e-3, 42),
        (927_373 * 350, 1e-3, 43),
        (328_360 * 350, 1e-6, 45),  # what the published limit of 300 results leaves
        (10, float("inf"), 15),
        (10, 5e-324, 45),
    ],
)
def test_a_candidate_needs_half_of_what_makes_a_short_hit_significant(residues, evalue, score):
    assert aligning.smallest_ungapped(residues, evalue) == score
