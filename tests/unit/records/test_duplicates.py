"""Duplicates are found in any number of slices of the key space."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.records.duplicates import find_duplicates


def written(tmp_path, parts: list[list[int]]):
    paths = []
    for number, keys in enumerate(parts):
        paths.append(tmp_path / f"{number}.parquet")
        columns = {"key": pa.array(keys, pa.uint64()), "id": pa.array([f"id{key}" for key in keys], pa.string())}
        pq.write_table(pa.table(columns), paths[-1])
    return paths


@pytest.mark.parametrize("keys_at_once", [10_000, 1000, 200])
def test_every_slice_is_searched(tmp_path, keys_at_once):
    keys = np.random.default_rng(1).permutation(5000)
    keys = (keys.astype(np.uint64) + np.uint64(2**63)).tolist()
    paths = written(tmp_path, [keys[:20], [], keys[20:]])
    assert find_duplicates(paths, 5000, keys_at_once) == []
    for twice in keys[::1237]:
        paths = written(tmp_path, [keys[:20], [twice], keys[20:]])
        assert find_duplicates(paths, 5001, keys_at_once) == [f"id{twice}"] * 2


def test_a_slice_that_overflows_has_duplicates(tmp_path):
    assert find_duplicates(written(tmp_path, [[7] * 100]), 100, 10) == ["id7"] * 100


def test_an_empty_set_has_none(tmp_path):
    assert find_duplicates(written(tmp_path, [[], []]), 0) == []
