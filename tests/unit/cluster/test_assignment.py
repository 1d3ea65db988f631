"""Names and assignment on arrays: three clusters with keys 10, 20, 30, and members."""

import numpy as np
import pytest

from unirefine.cluster.assignment import assign
from unirefine.cluster.index import KeyIndex
from unirefine.cluster.membership import Claims, join_claims
from unirefine.cluster.names import compare_names
from unirefine.core.rows import NONE

NONE_REMOVED = np.empty(0, np.uint64)


def keys(*values):
    return np.array(values, np.uint64)


CLUSTERS = KeyIndex(keys(10, 20, 30))


def joined(members, *claims):
    """Membership of claims (cluster key, member key) made by one source."""
    clusters, named = (keys(*column) for column in zip(*claims, strict=True))
    return join_claims([Claims(clusters, named, 1)], CLUSTERS, members)


def test_claims_are_sorted_by_what_they_name():
    members = KeyIndex(keys(10, 11, 12, 13))
    found = joined(members, (10, 10), (10, 11), (20, 11), (99, 12), (20, 55), (98, 13), (99, 13))
    assert found.owner.tolist() == [0, NONE, NONE, NONE]
    assert found.conflicting_claims.tolist() == [[1, 0], [1, 1]]
    assert found.conflicting_unknown_claims.tolist() == [[3, 98], [3, 99]]
    assert found.unknown_cluster_claims.tolist() == [[2, 99]]
    assert found.unknown_member_claims.tolist() == [[1, 55]]
    assert found.claims == 7


@pytest.mark.parametrize("assigned", [False, True])
def test_names_give_members_that_nobody_claims_their_cluster(assigned):
    members = KeyIndex(keys(30, 20, 10, 11))
    found = joined(members, (10, 20), (99, 10), (10, 11))
    named = compare_names(found, CLUSTERS, members, np.ones(4, bool), NONE_REMOVED, assign=assigned)
    assert found.owner.tolist() == [2 if assigned else NONE, 0, NONE, 0]
    assert (named.assigned, named.elsewhere.tolist()) == (int(assigned), [1])


def test_a_representative_is_removed_by_curate_or_by_records_unless_it_is_a_record_too():
    members = KeyIndex(keys(30, 20, 11))
    found = joined(members, (10, 11))
    kept = np.array([False, True, False])
    named = compare_names(found, CLUSTERS, members, kept, keys(10, 20, 77), assign=False)
    assert named.without_representative.tolist() == [0, 2]


def test_every_kept_member_without_a_cluster_has_one_reason():
    members = KeyIndex(keys(11, 12, 13, 21, 31, 41, 51))
    found = joined(members, (10, 11), (10, 12), (10, 13), (20, 13), (20, 21), (30, 31), (99, 41))
    kept = np.array([True, False, True, True, True, True, True])
    clusters = np.array([True, False, True])
    result = assign(found, clusters, kept, keys(99), np.array([1, 2]))
    assert {name: value.tolist() for name, value in vars(result).items()} == {
        "clusters_left": [True, False, False],
        "clusters_without_representative": [2],
        "clusters_without_members": [],
        "members_without_cluster": [6],
        "members_in_two_clusters": [2],
        "members_of_removed_clusters": [3, 4],
        "members_of_bad_clusters": [5],
    }
    result = assign(found, clusters, np.zeros(7, bool), NONE_REMOVED, np.empty(0, np.int64))
    assert result.clusters_without_members.tolist() == [0, 2]
    assert not result.clusters_left.any()
    assert sum(len(rows) for rows in vars(result).values()) == len(result.clusters_left) + 2
