"""Compare two runs by ids: what is gone, new, in another cluster, on another side, and why.

Memory: the keys and sides of both runs' clusters (18 bytes each), and a slice of the members.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from unirefine.compare.inputs import EARLY, Members, Run, members_of, option_changes, read_run, removals
from unirefine.compare.tables import Tables
from unirefine.core.levels import REMOVED, SIDES, TEST, TRAIN, VALIDATION
from unirefine.core.tables import take_strings
from unirefine.progress import meter

SLICE = 20_000_000
"""Members of a slice, about; a table is read once for each slice."""
NAMED = 3
"""Examples of each kind."""
_SIDES = {**dict(enumerate(SIDES)), REMOVED: "removed"}
_NOT_THERE = "not in the release"


def run(first: Path, second: Path, output: Path | None = None) -> dict[str, Any]:
    """Compare the results of two runs; return what `--json` prints (docs/releases.md).

    output: directory for `members.parquet` and `clusters.parquet`, which list every id that differs. Raises UserError
    when a run has no clusters, or when a file is damaged.
    """
    runs = read_run(first), read_run(second)
    with Tables(output) as tables:
        clusters = _clusters(*runs, tables)
        members = _members(*runs, tables)
    return {
        "first": _described(runs[0]),
        "second": _described(runs[1]),
        "options": [
            {"option": name, "first": left, "second": right}
            for name, left, right in sorted(option_changes(*runs), key=lambda change: change[0])
        ],
        "clusters": clusters,
        "members": members,
    }


def _described(one: Run) -> dict[str, Any]:
    sides = {} if one.side is None else {name: int((one.side == number).sum()) for number, name in _SIDES.items()}
    return {
        "results": str(one.results),
        "release": one.release,
        "clusters": len(one.keys),
        "members": one.members,
        "sides": sides,
    }


def places(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Index of each key in `among`, or -1: int64[n]. keys: uint64[n]; among: uint64[m], ascending."""
    if not len(among):
        return np.full(len(keys), -1)
    at = np.searchsorted(among, keys)
    at[at == len(among)] = 0
    return np.where(among[at] == keys, at, -1)


def _clusters(first: Run, second: Run, tables: Tables) -> dict[str, Any]:
    place = places(first.keys, second.keys)
    common = np.flatnonzero(place >= 0)
    gone = np.flatnonzero(place < 0)
    new = np.flatnonzero(places(second.keys, first.keys) < 0)
    for change, owner, which in (("gone", first, gone), ("new", second, new)):
        tables.add_clusters(change, owner, which)
    result: dict[str, Any] = {
        "common": len(common),
        "gone": len(gone),
        "new": len(new),
        "gone_because": removals(second, "uniref50", EARLY).count(first.keys[gone], _NOT_THERE),
        "new_because": removals(first, "uniref50", EARLY).count(second.keys[new], _NOT_THERE),
        "examples": {
            "gone": first.cluster_names(gone[:NAMED]).to_pylist(),
            "new": second.cluster_names(new[:NAMED]).to_pylist(),
        },
    }
    if first.side is not None and second.side is not None:
        result |= _sides(first, second, common, place[common], tables)
    return result


def _sides(first: Run, second: Run, left: np.ndarray, right: np.ndarray, tables: Tables) -> dict[str, Any]:
    """What became of the sides. left, right: the common clusters in either run, int64[k]."""
    assert first.side is not None and second.side is not None and first.split is not None and second.split is not None
    before, after = first.side[left], second.side[right]
    changed = np.flatnonzero(before != after)
    why = _why(first, second, left[changed], right[changed])
    named = [(_SIDES[int(a)], _SIDES[int(b)]) for a, b in zip(before[changed], after[changed], strict=True)]
    counts = Counter(zip(named, why, strict=True))
    tables.add_sides(second, right[changed], named, why)
    validation = [{int(side): int((one.side == side).sum()) for side in (VALIDATION, TEST)} for one in (first, second)]
    kept = {side: int(((before == side) & (after == side)).sum()) for side in (VALIDATION, TEST)}
    return {
        "changed": [
            {"from": sides[0], "to": sides[1], "because": reason, "clusters": count}
            for (sides, reason), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
        "validation": {
            "first": validation[0][VALIDATION],
            "second": validation[1][VALIDATION],
            "common": kept[VALIDATION],
            "trains_in_second": int(((before == VALIDATION) & (after == TRAIN)).sum()),
            "trained_in_first": int(((before == TRAIN) & (after == VALIDATION)).sum()),
        },
        "test": {"first": validation[0][TEST], "second": validation[1][TEST], "common": kept[TEST]},
    }


def _why(first: Run, second: Run, left: np.ndarray, right: np.ndarray) -> list[str]:
    """Why each of k common clusters is on another side."""
    assert first.split is not None and second.split is not None
    split = [{one["stage"]: one["config"] for one in each.origin["steps"]}.get("split") for each in (first, second)]
    by_split = "the split's options differ" if split[0] != split[1] else "the boundary of the hash moved"
    if split[0] == split[1] and split[0] and split[0]["method"] != "hash":
        by_split = "the split's list differs"
    moved = first.split[left] != second.split[right]
    keys = first.keys[left]
    taken = [removals(one, "uniref50", ("decontaminate",)) for one in (first, second)]
    codes = [one.of(keys) for one in taken]
    reasons = []
    for at, is_moved in enumerate(moved):
        found = [
            f"{one.names[code[at]].partition(': ')[2]} in the {which}"
            for which, one, code in zip(("first", "second"), taken, codes, strict=True)
            if code[at] >= 0
        ]
        reasons.append(by_split if is_moved else ", ".join(found) or "decontamination")
    return reasons


def _members(first: Run, second: Run, tables: Tables) -> dict[str, Any]:
    slices = max(1, -(-max(first.members, second.members) // SLICE))
    counts: Counter[str] = Counter()
    because: dict[str, Counter[str]] = {"gone_because": Counter(), "new_because": Counter()}
    examples: dict[str, list[str]] = {"gone": [], "new": [], "moved": []}
    taken = [removals(one, "uniref90", EARLY) for one in (first, second)]
    kept = [places(one.keys, other.keys) >= 0 for one, other in ((first, second), (second, first))]
    with meter("compare: members", total=slices, unit="slices") as done:
        for number in range(slices):
            left, right = (members_of(one, number, slices) for one in (first, second))
            place = places(left.key, right.key)
            there = np.flatnonzero(place >= 0)
            partner = place[there]
            gone, new = np.flatnonzero(place < 0), np.flatnonzero(places(right.key, left.key) < 0)
            old, now = left.cluster[there], right.cluster[partner]
            moved = first.keys[old] != second.keys[now]
            real = moved & kept[0][old] & kept[1][now]
            counts.update(
                common=len(there),
                gone=len(gone),
                new=len(new),
                moved=int(moved.sum()),
                moved_between_common=int(real.sum()),
            )
            because["gone_because"].update(taken[1].count(left.key[gone], _NOT_THERE))
            because["new_because"].update(taken[0].count(right.key[new], _NOT_THERE))
            if first.side is not None and second.side is not None:
                sides = first.side[old], second.side[now]
                counts["validation_trains_in_second"] += int(((sides[0] == VALIDATION) & (sides[1] == TRAIN)).sum())
                counts["trained_validates_in_second"] += int(((sides[0] == TRAIN) & (sides[1] == VALIDATION)).sum())
            for change, owner, chosen in (
                ("gone", first, _taken(left, gone)),
                ("new", second, _taken(right, new)),
                ("moved", second, _taken(right, partner[moved])),
            ):
                examples[change] += _names(owner, chosen, NAMED - len(examples[change]))
                was = old[moved] if change == "moved" else None
                tables.add_members(change, first, owner, chosen, was)
            done.advance(1)
    return {**{name: int(count) for name, count in counts.items()}, **because, "examples": examples}


def _taken(members: Members, chosen: np.ndarray) -> Members:
    return Members(members.key[chosen], members.cluster[chosen], members.row[chosen])


def _names(owner: Run, members: Members, most: int) -> list[str]:
    """Ids of the first members."""
    if most <= 0 or not len(members.row):
        return []
    return take_strings(owner.member_records(), "id", members.row[:most]).to_pylist()
