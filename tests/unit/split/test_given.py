"""The split of the source."""

import numpy as np
import pyarrow as pa
import pytest

from unirefine.core import parquet
from unirefine.core.ids import key_of
from unirefine.core.levels import NO_SIDE
from unirefine.errors import UserError
from unirefine.split.given import given_sides


@pytest.fixture
def sides(tmp_path):
    """(side of each record, its cluster) -> sides of the clusters."""

    def assign(given, clusters, *, with_test=False):
        level, members = tmp_path / "records/uniref90", tmp_path / "cluster"
        for directory in (level, members):
            directory.mkdir(parents=True, exist_ok=True)
        names = [f"r{row}" for row in range(len(given))]
        columns = {"id": pa.array(names), "given_side": pa.array(given, pa.uint8())}
        parquet.write_table(pa.table(columns), level / "records-000-of-001.parquet", row_group_size=2)
        order = np.argsort(clusters, kind="stable")
        table = pa.table({
            "cluster": pa.array(np.array(clusters, np.uint32)[order]), "row": pa.array(order.astype(np.uint32)),
            "key": pa.array([key_of(names[row]) for row in order], pa.uint64()),
        })  # fmt: skip
        parquet.write_table(table, members / "membership.parquet", row_group_size=2)
        found = given_sides(members, tmp_path / "records", max(clusters) + 1, with_test=with_test)
        return np.concatenate(list(found)).tolist()

    return assign


def test_a_cluster_has_the_side_of_its_members(sides):
    assert sides([0, 1, 0, 0, 1], [0, 1, 2, 0, 1]) == [0, 1, 0]
    assert sides([2, 1, 0], [0, 1, 2], with_test=True) == [2, 1, 0]


@pytest.mark.parametrize(
    ("given", "clusters", "options", "says"),
    [
        ([0, 1, 1], [0, 0, 1], {}, r"1 members are on another side than their cluster: r0 and r1"),
        ([0, None, 1], [0, 0, 1], {}, "the records have no sides"),
        ([0, NO_SIDE - 254], [0, 1], {}, "the source gives no cluster to validation"),
        ([0, 1], [0, 1], {"with_test": True}, "the source gives no cluster to test; set split.given_test: false"),
        ([0, 1, 2], [0, 1, 2], {}, "the source gives 1 clusters to test; set split.given_test: true"),
    ],
)
def test_what_is_no_split_is_refused(sides, given, clusters, options, says):
    with pytest.raises(UserError, match=says):
        sides(given, clusters, **options)
