"""Sides made straight from arrays (clusters of known sizes, sequences of known lengths), and a test of uniformity."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unirefine.dataset import IndexedFiles
from unirefine.dataset.indexed import write_index


class Known(IndexedFiles):
    """Files with keys that are given."""

    def keys(self, sequences: np.ndarray) -> np.ndarray:
        """A key that is not the sequence's number."""
        return np.asarray(sequences, np.uint64) * np.uint64(1_000_003) + np.uint64(17)


def write_files(directory: Path, sizes: np.ndarray, lengths: np.ndarray, files: int, dtype: type) -> list[Path]:
    """Residue p of sequence i is token 4 + (i + p) % 20."""
    assert sum(sizes) == len(lengths)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    cuts = [len(sizes) * i // files for i in range(files + 1)]
    prefixes = []
    for file in range(files):
        first, end = ends[cuts[file]], ends[cuts[file + 1]]
        prefix = directory / f"part-{file}"
        tokens = [4 + (i + np.arange(lengths[i])) % 20 for i in range(first, end)]
        np.concatenate([*tokens, np.empty(0)]).astype(dtype).tofile(f"{prefix}.bin")
        documents = ends[cuts[file] : cuts[file + 1] + 1] - first
        write_index(f"{prefix}.idx", np.asarray(lengths[first:end]), documents, dtype)
        prefixes.append(prefix)
    return prefixes


@pytest.fixture(scope="session")
def make_side(tmp_path_factory) -> Callable[..., Known]:
    """make_side(sizes, lengths, files=3, dtype=uint8) -> an open side."""

    def make(sizes, lengths, files: int = 3, dtype: type = np.uint8) -> Known:
        directory = tmp_path_factory.mktemp("side")
        return Known(write_files(directory, np.asarray(sizes), np.asarray(lengths, np.int32), files, dtype))

    return make


@pytest.fixture(scope="session")
def assert_counts() -> Callable[..., None]:
    """assert_counts(observed, expected): chi-square at about 4 standard deviations (Wilson and Hilferty 1931)."""

    def check(observed, expected) -> None:
        observed = np.asarray(observed, float).ravel()
        expected = np.broadcast_to(np.asarray(expected, float), observed.shape)
        assert expected.min() > 5, "too few expected for a chi-square test"
        assert abs(observed.sum() - expected.sum()) < 1e-6 * expected.sum()
        freedom = len(observed) - 1
        statistic = ((observed - expected) ** 2 / expected).sum() / freedom
        z = (math.cbrt(statistic) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
        assert abs(z) < 4.2, f"chi-square {statistic * freedom:.1f} with {freedom} degrees of freedom (z = {z:.1f})"

    return check
