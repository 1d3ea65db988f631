"""A few removed sequences and clusters with the evidence for it, one of each kind before a second one."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from unirefine.core.ids import key_of
from unirefine.core.levels import LEVELS
from unirefine.core.tables import iterate_file, numbers
from unirefine.files.stages import stage_path

SHOWN = 10
COLUMNS = ("id", "removed by", "reason", "evidence", "identity", "of train", "of held out", "E-value")
_ALONG = "cluster_removed"
"""The reason of what went with its cluster; shown after the others."""


def removed_files(results: Path) -> list[tuple[str, Path]]:
    """The removed.parquet of every stage that has one: (stage, path)."""
    paths = [("records", stage_path(results, "records") / level / "removed.parquet") for level in LEVELS]
    paths += [
        (stage, stage_path(results, stage) / "removed.parquet") for stage in ("curate", "cluster", "decontaminate")
    ]
    return [(stage, path) for stage, path in paths if path.exists()]


def example_rows(results: Path) -> list[list[str]]:
    """At most SHOWN rows of COLUMNS. Of what was similar, the best hit's identity, coverages and E-value."""
    kinds: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for stage, path in removed_files(results):
        for _row, batch in iterate_file(path, ["level", "id", "reason", "evidence"], stage):
            for level, reason in {(row["level"], row["reason"]) for row in _kinds(batch)}:
                found = kinds[stage, level, reason]
                if len(found) < SHOWN:
                    chosen = batch.filter(pc.and_(pc.equal(batch["level"], level), pc.equal(batch["reason"], reason)))
                    first = chosen.slice(0, SHOWN - len(found))
                    found += zip(first["id"].to_pylist(), first["evidence"].to_pylist(), strict=True)
    order = sorted(kinds, key=lambda kind: kind[2] == _ALONG)  # stable: the workflow's order within
    rounds = itertools.zip_longest(*([(kind, *row) for row in kinds[kind]] for kind in order))
    chosen = [one for one in itertools.chain.from_iterable(rounds) if one is not None][:SHOWN]
    hits = _best_hits(
        results, [name for (stage, level, reason), name, _ in chosen if _is_similar(stage, level, reason)]
    )
    none = ("",) * 4
    return [
        [name, stage, reason.replace("_", " "), evidence, *hits.get(name, none)]
        for (stage, _level, reason), name, evidence in chosen
    ]


def _kinds(batch) -> list[dict[str, str]]:
    return batch.select(["level", "reason"]).to_pylist() if len(batch) < 1000 else (
        pc.unique(batch.select(["level", "reason"]).to_struct_array()).to_pylist()
    )  # fmt: skip


def _is_similar(stage: str, level: str, reason: str) -> bool:
    return stage == "decontaminate" and level == LEVELS[0] and reason.startswith("similar_to_")


def _best_hits(results: Path, names: list[str]) -> dict[str, tuple[str, ...]]:
    """By id of a train cluster, its hit of highest identity: identity, coverage of both, E-value, as text."""
    clusters = stage_path(results, "cluster") / "clusters.parquet"
    wanted = {key_of(name.rsplit("_", 1)[-1] if name.startswith("UniRef") else name): name for name in names}
    keys, at = np.array(sorted(wanted), np.uint64), {}
    if not names:
        return {}
    for first, batch in iterate_file(clusters, ["key"], "cluster"):
        block = numbers(batch.column(0))
        for row in np.flatnonzero(np.isin(block, keys)):
            at[first + int(row)] = wanted[int(block[row])]
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    columns = ["cluster", "identity", "query_coverage", "target_coverage", "evalue"]
    for path in sorted((stage_path(results, "decontaminate") / "hits").glob("part-*.parquet")):
        for _row, batch in iterate_file(path, columns, "decontaminate"):
            inside = np.flatnonzero(np.isin(numbers(batch.column(0)), list(at)))
            for row in batch.take(inside).to_pylist():
                name, identity = at[row["cluster"]], row["identity"]
                if name not in best or identity > best[name][0]:
                    text = (f"{identity:.1%}", f"{row['query_coverage']:.0%}", f"{row['target_coverage']:.0%}")
                    best[name] = identity, (*text, f"{row['evalue']:.1e}")
    return {name: text for name, (_identity, text) in best.items()}
