"""Single validation proteins, from evaluate/proteins.parquet: their taxa, the easiest and the hardest by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.core.ids import key_of
from unirefine.core.levels import LEVELS
from unirefine.core.resampling import perplexity_intervals
from unirefine.core.tables import Parts, find_parts, iterate, iterate_file, numbers, open_parquet, take_strings
from unirefine.files.names import TAXDUMP
from unirefine.files.stages import stage_path
from unirefine.report.page import Table
from unirefine.report.taxa import NAMES, UNKNOWN, read_taxa

SHOWN = 10
LEAST = 10
"""Hidden residues of a protein that is named: of fewer, chance decides."""
_PREFIX = "nll "


@dataclass(frozen=True)
class Proteins:
    """The n evaluated sequences."""

    table: pa.Table
    """proteins.parquet."""
    names: Sequence[str | None]
    """Name of the representative of each, as in AATM_RABIT; None where not known."""
    organisms: Sequence[str]
    """Of each; empty where not known."""
    by_taxon: list[dict[str, Any]]
    """Rows of a breakdown by kingdom; empty without a taxonomy dump or taxa."""
    text: str
    """What was found out about taxa, as a sentence."""

    def tables(self, model: str, baseline: str | None, columns: Mapping[str, str]) -> list[Table]:
        """The hardest and the easiest proteins for a model. columns: names of models by key."""
        hidden = self.table["hidden"].to_numpy()
        chosen = np.flatnonzero(hidden >= LEAST)
        value = {key: np.exp(self.table[_PREFIX + key].to_numpy() / np.maximum(hidden, 1)) for key in columns}
        order = chosen[np.argsort(value[model][chosen], kind="stable")]
        shown = [model, *([baseline] if baseline else [])]
        heads = ["protein", "name", "organism", "length", "members", "identity to train", "hidden",
                 *(columns[key] for key in shown)]  # fmt: skip

        def row(at: int) -> list[str]:
            size, identity = self.table["size"][at].as_py(), self.table["identity"][at].as_py()
            return [
                self.table["id"][at].as_py(), self.names[at] or "", self.organisms[at],
                f"{self.table['length'][at].as_py():,}", "" if size is None else f"{size:,}",
                "no hit" if identity is None else f"{identity:.1%}", f"{hidden[at]:,}",
                *(f"{value[key][at]:.2f}" for key in shown),
            ]  # fmt: skip

        return [
            Table(title=title, columns=heads, rows=[row(int(at)) for at in some], numeric=range(3, len(heads)))
            for title, some in (
                ("The hardest validation proteins", order[::-1][:SHOWN]),
                ("The easiest validation proteins", order[:SHOWN]),
            )
        ]


def read_proteins(results: Path) -> Proteins | None:
    """The proteins of a run; None where evaluate has not written them."""
    path = results / "evaluate" / "proteins.parquet"
    if not path.exists():
        return None
    with open_parquet(path, "evaluate") as file:
        table, metadata = file.read(), file.schema_arrow.metadata or {}
    none = [None] * len(table)
    found = _records(results, table["cluster_id"].to_pylist())
    if found is None:
        return Proteins(table, none, [""] * len(table), [], "The records are no longer there, so no taxon is known.")
    parts, rows = found
    taxa = _taxa(parts, rows)
    names = take_strings(parts, "representative", rows).to_pylist() if _has(parts, "representative") else none
    known = read_taxa(stage_path(results, "release") / TAXDUMP, set(taxa[taxa > 0].tolist()))
    if known is None:
        organisms = [f"taxon {taxon}" if taxon > 0 else "" for taxon in taxa]
        return Proteins(table, names, organisms, [], "Without a taxonomy dump (release.taxdump) taxa have no names.")
    organisms = [known.name(int(taxon)) if taxon > 0 else "" for taxon in taxa]
    seed = int(metadata.get(b"unirefine_seed", b"0"))
    by_taxon = [] if not (taxa > 0).any() else breakdown_by_group(table, known.groups_of(taxa), seed)
    text = f"The taxon of {int((taxa > 0).sum()):,} of {len(table):,} proteins is known, by their representatives. "
    text += f"Proteins are named where at least {LEAST} of their residues were hidden."
    return Proteins(table, names, organisms, by_taxon, text)


def breakdown_by_group(table: pa.Table, group: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Rows of a breakdown by kingdom, with intervals over resampled clusters. group: int[n], indices of NAMES."""
    models = [name.removeprefix(_PREFIX) for name in table.column_names if name.startswith(_PREFIX)]
    _, cluster = np.unique(table["cluster_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    hidden = table["hidden"].to_numpy()
    rows = []
    for number, name in enumerate(NAMES):
        where = (group == number) & (hidden > 0)
        if not where.any():
            continue
        owners, owner = np.unique(cluster[where], return_inverse=True)
        sums = np.stack([np.bincount(owner, weights=table[_PREFIX + key].to_numpy()[where]) for key in models])
        positions = np.bincount(owner, weights=hidden[where])
        intervals = perplexity_intervals(sums, positions, seed=seed)
        row = {"bin": name, "sequences": int(where.sum()), "residues": int(positions.sum()), "clusters": len(owners)}
        row |= {key: float(np.exp(total / positions.sum())) for key, total in zip(models, sums.sum(1), strict=True)}
        rows.append(row | {"intervals": intervals and dict(zip(models, intervals, strict=True))})
    return rows if any(row["bin"] != UNKNOWN for row in rows) else []


def _records(results: Path, cluster_ids: list[str]) -> tuple[Parts, np.ndarray] | None:
    """The records of representatives, and the row of each cluster's: int64[n]; None where they are deleted."""
    path = stage_path(results, "cluster") / "clusters.parquet"
    with open_parquet(path, "cluster") as file:
        level = (file.schema_arrow.metadata or {}).get(b"representative_level", LEVELS[0].encode()).decode()
    parts = find_parts(stage_path(results, "records"), level)
    if parts is None:
        return None
    wanted = np.array([key_of(name.removeprefix("UniRef50_")) for name in cluster_ids], np.uint64)
    keys, at = np.unique(wanted, return_inverse=True)
    rows = np.zeros(len(keys), np.int64)
    for _first, batch in iterate_file(path, ["key", "row"], "cluster"):
        key, row = (numbers(column) for column in batch.columns)
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        same = keys[place] == key
        rows[place[same]] = row[same]
    return parts, rows[at]


def _taxa(parts: Parts, rows: np.ndarray) -> np.ndarray:
    """Taxon of the representative at rows, else of the whole cluster: int64[n], -1 where not known."""
    found = np.full(len(rows), -1, np.int64)
    for name in ("taxon_id", "rep_taxon_id"):
        if not _has(parts, name):
            continue
        for first, batch in iterate(parts, [name]):
            block = numbers(batch.column(0), -1)
            inside = np.flatnonzero((rows >= first) & (rows < first + len(block)))
            given = block[rows[inside] - first]
            found[inside] = np.where(given > 0, given, found[inside])
    return found


def _has(parts: Parts, name: str) -> bool:
    with open_parquet(parts.paths[0], "records") as file:
        return name in file.schema_arrow.names
