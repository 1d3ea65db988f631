"""Clusters in the order of their keys, and members in the order of (cluster, key)."""

import numba
import numpy as np

from unirefine.cluster.blocks import blocks
from unirefine.core.rows import NONE


def sort_rows(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Rows in the order of their keys. rows: uint32[n]; keys: uint64[records]; returns uint32[n]."""
    return rows[np.argsort(keys[rows], kind="stable")]


def positions(rows: np.ndarray, records: int) -> np.ndarray:
    """The inverse of a list of rows: uint32[records], the position of each row in `rows`, NONE where absent."""
    out = np.full(records, NONE, np.uint32)
    out[rows] = np.arange(len(rows), dtype=np.uint32)
    return out


def number_clusters(owner: np.ndarray, kept: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Turn cluster rows into cluster numbers, in place: uint32[members], NONE for a member that goes.

    owner: uint32[members], row of each member's cluster or NONE. kept: bool[members]. position: uint32[clusters], the
    number of each cluster, NONE for one that goes.
    """
    for block in blocks(len(owner)):
        owners = owner[block]
        stays = kept[block] & (owners != NONE)
        owners[stays] = position[owners[stays]]
        owners[~stays] = NONE
    return owner


def group_members(cluster_of: np.ndarray, clusters: int, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Member rows sorted by (cluster, key), and the size of each cluster.

    cluster_of: uint32[records], the cluster of each record or NONE; keys: uint64[records].
    Returns (order uint32[members], sizes uint32[clusters]); uses 4 bytes a cluster more, and numba's threads.
    """
    ends = np.zeros(clusters + 1, np.uint32)
    _count_members(cluster_of, ends)
    sizes = ends[1:].copy()
    np.cumsum(ends, out=ends)
    order = np.empty(int(ends[-1]), np.uint32)
    _fill_groups(cluster_of, ends, order)
    _sort_groups(ends, order, keys)
    return order, sizes


@numba.njit(cache=True)
def _count_members(cluster_of, ends):
    for row in range(len(cluster_of)):
        if cluster_of[row] != NONE:
            ends[cluster_of[row] + np.uint32(1)] += np.uint32(1)


@numba.njit(cache=True)
def _fill_groups(cluster_of, ends, order):
    """ends: where each group begins; in the end, where it ends."""
    for row in range(len(cluster_of)):
        cluster = cluster_of[row]
        if cluster != NONE:
            order[ends[cluster]] = row
            ends[cluster] += np.uint32(1)


@numba.njit(cache=True, parallel=True)
def _sort_groups(ends, order, keys):
    """Sort each group by key: by insertion up to 64 members."""
    chunks = 1024
    clusters = len(ends) - 1
    for chunk in numba.prange(chunks):
        for cluster in range(clusters * chunk // chunks, clusters * (chunk + 1) // chunks):
            begin, end = np.int64(0) if cluster == 0 else np.int64(ends[cluster - 1]), np.int64(ends[cluster])
            if end - begin > 64:
                group = order[begin:end].copy()
                order[begin:end] = group[np.argsort(keys[group])]
                continue
            for i in range(begin + 1, end):
                row = order[i]
                key = keys[row]
                j = i - 1
                while j >= begin and keys[order[j]] > key:
                    order[j + 1] = order[j]
                    j -= 1
                order[j + 1] = row
