"""The whole stage on files, against an oracle of plain dicts and sets."""

import random as python_random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unirefine.cluster.run import run as cluster
from unirefine.config import Cluster
from unirefine.core.ids import key_of

UNKNOWN_CLUSTER, UNKNOWN_MEMBER = "Q99990", "Q99991"


def oracle(clusters, members, dropped, claims):
    """Where every kept member goes and which clusters stay; clusters and members are named C... and M..."""
    claimants = {}
    for entry, member in claims:
        claimants.setdefault(member, set()).add(entry)
    owners, removed = {}, {}
    for member in members:
        if member in dropped:
            continue
        found = claimants.get(member, set())
        if len(found) > 1:
            removed[member] = "two_clusters"
        elif not found or not found <= set(clusters):
            removed[member] = "no_cluster"
        elif found <= dropped:
            removed[member] = "cluster_removed"
        else:
            (owners[member],) = found
    kept = sorted({*clusters} - dropped, key=key_of)
    for name in kept:
        if name not in owners.values():
            removed[name] = "no_members"
    kept = [name for name in kept if name in owners.values()]
    return owners, removed, kept


@st.composite
def releases(draw):
    clusters = [f"P{number:05d}" for number in range(draw(st.integers(1, 8)))]
    members = [f"A0A{number:03d}BCD{number % 10}" for number in range(draw(st.integers(1, 25)))]
    pair = st.tuples(st.sampled_from([*clusters, UNKNOWN_CLUSTER]), st.sampled_from([*members, UNKNOWN_MEMBER]))
    tidy = [(clusters[place % len(clusters)], member) for place, member in enumerate(members)]
    claims50 = [pair_ for pair_ in tidy if draw(st.integers(0, 9))] + draw(st.lists(pair, max_size=3))
    claims50.append((clusters[0], members[0]))
    claims90 = draw(st.none() | st.just(tidy) | st.lists(pair, max_size=20))
    dropped = draw(st.sets(st.sampled_from(clusters + members), max_size=6))
    return clusters, members, claims50, claims90, dropped, draw(st.integers(0, 2**32)), draw(st.integers(1, 4))


def execute(run, clusters, members, claims50, claims90, dropped):
    run.level("uniref50", clusters, dropped=dropped)
    run.level("uniref90", members, dropped=dropped)
    run.members("uniref50", claims50)
    if claims90 is not None:
        run.members("uniref90", [(member, entry) for entry, member in claims90])
    return cluster(Cluster(), *run.paths, threads=2)


def content(run, clusters, members):
    """Everything the stage says, by name instead of row."""
    kept = run.read("clusters.parquet")
    names = {key_of(name): name for name in clusters}
    assert [clusters[one["row"]] for one in kept] == [names[one["key"]] for one in kept]
    order = [names[one["key"]] for one in kept]
    membership = run.read("membership.parquet")
    for one in membership:
        assert key_of(members[one["row"]]) == one["key"]
    pairs = [(order[one["cluster"]], members[one["row"]]) for one in membership]
    removed = {one["id"].partition("_")[2]: one["reason"] for one in run.read("removed.parquet")}
    return order, pairs, removed, [one["size"] for one in kept]


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(releases())
def test_agrees_with_plain_dicts_in_any_order(new_run, release):
    clusters, members, claims50, claims90, dropped, seed, parts = release
    owners, removed, kept = oracle(clusters, members, dropped, claims50 + (claims90 or []))
    run = new_run(parts=parts)
    counts = execute(run, clusters, members, claims50, claims90, dropped)["levels"]
    order, pairs, reasons, sizes = content(run, clusters, members)
    assert order == kept
    assert {member: entry for entry, member in pairs} == owners and len(pairs) == len(owners)
    assert pairs == sorted(pairs, key=lambda pair: (kept.index(pair[0]), key_of(pair[1])))
    assert reasons == removed
    assert sizes == [list(owners.values()).count(entry) for entry in kept]
    assert counts["uniref90"]["in"] == run.counts["uniref90"]["kept"]
    assert counts["uniref90"]["kept"] == len(owners)
    assert counts["uniref50"]["in"] == run.counts["uniref50"]["kept"]
    assert counts["uniref50"]["kept"] == len(kept)

    shuffled = python_random.Random(seed)
    again = new_run(parts=3)
    for rows in (clusters := clusters.copy(), members := members.copy(), claims50 := claims50 * 2):
        shuffled.shuffle(rows)
    execute(again, clusters, members, claims50, claims90, dropped)
    assert content(again, clusters, members) == (order, pairs, reasons, sizes)
    for name in ("removed.parquet", "violations.parquet"):
        assert (again.paths[2] / name).read_bytes() == (run.paths[2] / name).read_bytes()
