"""The split of the source: the side of each cluster is that of its members, which the records have."""

from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np

from unirefine.core.idlist import some
from unirefine.core.levels import LEVELS, NO_SIDE, SIDES, TEST, VALIDATION
from unirefine.core.tables import iterate_file, numbers, read_column, record_parts, strings_at
from unirefine.errors import UserError

_BLOCK_ROWS = 1 << 20
_NAMED = 3


def given_sides(clusters: Path, records: Path, total: int, *, with_test: bool) -> Iterator[np.ndarray]:
    """Sides of all clusters, uint8, in blocks of the cluster stage's rows.

    clusters: directory of the cluster stage; total: its clusters. Memory: a byte a member and 5 a cluster. Raises
    UserError where the source gives no sides, for a cluster with members on two sides, and when a side is missing.
    """
    parts = record_parts(records, LEVELS[1])
    given = read_column(parts, "given_side", np.uint8, null=NO_SIDE)
    path = clusters / "membership.parquet"
    side, first = np.full(total, NO_SIDE, np.uint8), np.zeros(total, np.uint32)
    mixed: list[tuple[int, int]] = []
    for _row, batch in iterate_file(path, ["cluster", "row"], "cluster", batch_rows=_BLOCK_ROWS):
        cluster, row = numbers(batch.column(0)), numbers(batch.column(1))
        if (given[row] == NO_SIDE).any():
            raise UserError(
                "the records have no sides", where=records,
                fix="split.method: given is for a source with a split; use another method",
            )  # fmt: skip
        found = _assign(cluster, given[row], row, side, first)
        mixed += [(int(first[cluster[at]]), int(row[at])) for at in found.tolist()]
    if mixed:
        shown = [" and ".join(strings_at(parts, "id", np.sort(np.array(pair))).to_pylist()) for pair in mixed[:_NAMED]]
        what = f"{len(mixed):,} members are on another side than their cluster"
        raise UserError(
            f"{what}: {some(shown, _NAMED)}",
            where=path,
            fix="a cluster is on one side; correct the split or the clusters",
        )
    _check(side, with_test=with_test)
    return (side[start : start + _BLOCK_ROWS] for start in range(0, total, _BLOCK_ROWS))


@numba.njit(cache=True)
def _assign(cluster, given, row, side, first):
    """Take the side of each cluster's first member. Returns the positions of members on another one."""
    other = np.empty(len(cluster), np.int64)
    count = 0
    for at in range(len(cluster)):
        index = cluster[at]
        if side[index] == NO_SIDE:
            side[index], first[index] = given[at], row[at]
        elif side[index] != given[at]:
            other[count] = at
            count += 1
    return other[:count].copy()


def _check(side: np.ndarray, *, with_test: bool) -> None:
    """Raise UserError when a side is missing, or there is a test side that the config does not know of."""
    counts = np.bincount(side, minlength=len(SIDES))
    for number, name in enumerate(SIDES):
        if not counts[number] and (number <= VALIDATION or with_test):
            fix = (
                "set split.given_test: false" if number == TEST else "look into curate's and cluster's removed.parquet"
            )
            raise UserError(f"the source gives no cluster to {name}", fix=fix)
    if counts[TEST] and not with_test:
        raise UserError(f"the source gives {int(counts[TEST]):,} clusters to test", fix="set split.given_test: true")
