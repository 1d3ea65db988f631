"""Running MMseqs2's modules: how far one is, and lengths, subsets and entries of its databases."""

import numpy as np
import pytest

from unirefine.similarity.mmseqs import Workspace, _share
from unirefine.tools import find_mmseqs

INDEX = b"Estimated memory consumption: 1G\nIndex table: counting k-mers\n[" + 65 * b"=" + b"] 3.89K 0s 677ms\n"
START = b"Starting prefiltering scores calculation (step %d of %d)\nQuery db start 1 to 410\n["


@pytest.mark.parametrize(
    ("printed", "share"),
    [
        (b"", 0),
        (b"Compute score, coverage and sequence identity\n[" + 13 * b"=", 0.2),
        (INDEX, 0),
        (INDEX + START % (1, 1), 0),
        (INDEX + START % (1, 1) + 26 * b"=", 0.4),
        (INDEX + START % (1, 1) + 65 * b"=" + b"] 410 27s 380ms\n", 1),
        (INDEX + START % (1, 2) + 65 * b"=" + b"] 410\n" + INDEX + START % (2, 2) + 13 * b"=", 0.6),
    ],
)
def test_how_far_a_module_is(printed, share):
    assert _share(printed) == pytest.approx(share)


def test_a_database_its_lengths_and_a_subset(tmp_path):
    (tmp_path / "x.fasta").write_text("".join(f">{i}\n{length * 'ACDE'}\n" for i, length in enumerate((3, 1, 9, 2))))
    tool = Workspace(find_mmseqs(), tmp_path, 1, "test")
    assert tool.createdb("db", tmp_path / "x.fasta") == 4
    assert tool.lengths("db").tolist() == [12, 4, 36, 8]
    for keys in ([2, 3], [0]):  # the second replaces the first
        tool.subset("db", "some", np.array(keys))
        assert [line.split()[0] for line in (tmp_path / "some.index").read_text().splitlines()] == list(map(str, keys))
    assert tool.entries("none") == 0


def test_entries_are_counted_in_all_files_of_a_result(tmp_path):
    (tmp_path / "found.0").write_bytes(b"1\t40\t0\n2\t50\t3\n\0")
    (tmp_path / "found.1").write_bytes(b"\0" + b"7\t40\t0\n\0")
    (tmp_path / "found.index").write_bytes(b"0\t0\t15\n")
    assert Workspace("mmseqs", tmp_path, 1, "test").entries("found") == 3
