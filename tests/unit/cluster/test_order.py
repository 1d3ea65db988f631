import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.cluster.order import group_members, number_clusters, positions, sort_rows
from unirefine.core.rows import NONE


@pytest.mark.parametrize("largest", [5, 64, 65, 3000])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), clusters=st.integers(1, 30))
def test_members_sorted_by_cluster_and_key(largest, seed, clusters):
    random = np.random.default_rng(seed)
    cluster_of = random.integers(0, clusters, random.integers(0, largest + clusters), np.uint32)
    cluster_of[random.random(len(cluster_of)) < 0.2] = NONE
    keys = random.permutation(np.arange(len(cluster_of), dtype=np.uint64) << np.uint64(50))
    order, sizes = group_members(cluster_of, clusters, keys)
    expected = sorted((c, k, row) for row, (c, k) in enumerate(zip(cluster_of, keys, strict=True)) if c != NONE)
    assert order.tolist() == [row for _cluster, _key, row in expected]
    assert sizes.tolist() == np.bincount(cluster_of[cluster_of != NONE], minlength=clusters).tolist()


def test_one_huge_cluster_among_singletons_for_any_number_of_threads():
    random = np.random.default_rng(1)
    cluster_of = np.where(random.random(200_000) < 0.5, 7, np.arange(200_000)).astype(np.uint32)
    keys = random.permutation(200_000).astype(np.uint64)
    orders = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        orders.append(group_members(cluster_of, 200_000, keys)[0])
    assert (orders[0] == orders[1]).all()
    members = orders[0][cluster_of[orders[0]] == 7]
    assert (np.diff(keys[members].astype(np.int64)) > 0).all()


def test_rows_by_key_and_back():
    keys = np.array([5, 2**63, 1, 9], np.uint64)
    rows = sort_rows(np.array([0, 1, 3], np.uint32), keys)
    assert rows.tolist() == [0, 3, 1]
    assert positions(rows, 4).tolist() == [0, 2, int(NONE), 1]


def test_members_that_go_get_no_cluster_number():
    owner = np.array([3, NONE, 1, 3, 0], np.uint32)
    kept = np.array([True, True, True, False, True])
    numbers = number_clusters(owner, kept, positions(np.array([3, 1], np.uint32), 4))
    assert numbers is owner and numbers.tolist() == [0, int(NONE), 1, int(NONE), int(NONE)]
