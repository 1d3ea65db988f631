"""Curate: read the records of each level once; write the rows kept, and the removals with reason and evidence.

Memory: one batch of records, whatever the size of the release. Sequences are read only when a rule needs them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.config import Curate
from unirefine.core.removed import Removed, removed_writer
from unirefine.core.tables import BATCH_ROWS, Parts, iterate, numbers, record_parts, table_writer
from unirefine.curate.purge import PurgeList, read_purge_lists
from unirefine.curate.rules import Rules, Tally
from unirefine.curate.taxonomy import artificial_taxa
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.written import delete_stale
from unirefine.progress import meter

KEPT = pa.schema([("row", pa.uint32()), ("key", pa.uint64()), ("length", pa.int32())])
_SEQUENCE_BATCH_ROWS = 1 << 14
_ALWAYS = ("removed.parquet", "counts.json", "lineage.json")


@dataclass(frozen=True)
class Curated:
    """What curate kept and removed."""

    counts: dict[str, dict[str, Any]]
    """`{level: {in, kept, removed: {reason: n}}}`."""
    taxonomy: dict[str, Any]
    """`{source, roots, artificial_taxa, ...}`: the taxonomy used."""


def run(
    config: Curate,
    records: Path | str,
    levels: Sequence[str],
    output: Path | str,
    *,
    taxdump: Path | str | None = None,
    purge_lists: Sequence[Path | str] = (),
    threads: int = 1,
) -> Curated:
    """Apply the rules of `config` to the records of `levels`; write rows kept, removals, counts, lineage to `output`.

    records: directory of the records stage. taxdump: NCBI's taxdump.tar.gz; default: the pinned list. threads: of
    jackhmmer. The rules are applied in the order of `unirefine.curate.rules.REASONS`. Raises UserError for records that
    are missing or do not match their counts, and for lists or a taxonomy that cannot be read.
    """
    records, output = Path(records), Path(output)
    parts = {level: record_parts(records, level) for level in levels}
    for level in levels:
        _check_counts(records, parts[level])
    taxa, purge = artificial_taxa(config.artificial_taxa, taxdump), read_purge_lists(purge_lists)
    designs = []
    if config.designs:
        from unirefine.curate.designs import read_designs  # needs the extra `designs`

        designs = read_designs(config.designs)
    rules = Rules(config=config, taxa=taxa, purge=purge, designs=designs, threads=threads)
    counts, tallies = {}, {}
    with removed_writer(output / "removed.parquet") as removed:
        for level in levels:
            tallies[level] = Tally()
            kept = _curate_level(
                replace(rules, database_size=parts[level].rows), parts[level], output, removed, tallies[level]
            )
            counts[level] = level_counts(parts[level].rows, kept, removed.counts.get(level, Counter()))
    taxonomy = {
        "source": taxa.source,
        "roots": list(config.artificial_taxa),
        "artificial_taxa": int((taxa.root > 0).sum()),
    }
    if config.artificial_members != "none":
        taxonomy["kept_with_artificial_members"] = _by_level(tallies, lambda tally: tally.artificial_members)
    facts = {
        "taxonomy": taxonomy | {"records_with_unknown_taxon": _by_level(tallies, lambda tally: tally.unknown_taxa)},
        "purge_lists": _purge_facts(purge, purge_lists, tallies),
    }
    if rules.reads_letters:
        facts["letters"] = _by_level(tallies, lambda tally: _letters(tally.letters))
    if designs:
        facts["designs"] = {"queries": len(designs), "evalue": config.designs_evalue}
    write_counts(output / "counts.json", "curate", counts, **facts)
    step = lineage.step("curate", config, counts=counts, inputs=[config.designs] if config.designs else [])
    lineage.write(output, step, [records / level for level in levels])
    delete_stale(output, "curate", [*(f"{level}.parquet" for level in levels), *_ALWAYS])
    return Curated(counts, taxonomy)


def _check_counts(records: Path, parts: Parts) -> None:
    path = records / parts.level / "counts.json"
    kept = read_json(path)["levels"][parts.level]["kept"]
    if kept != parts.rows:
        raise UserError(
            f"{kept} {parts.level} records, but their parts have {parts.rows}",
            where=path,
            fix="run the records stage again",
        )


def _curate_level(rules: Rules, parts: Parts, output: Path, removed: Removed, tally: Tally) -> int:
    """Curate one level; return the number of records kept."""
    columns = rules.columns()
    batch_rows = _SEQUENCE_BATCH_ROWS if "sequence" in columns else BATCH_ROWS
    with (
        meter(f"curate {parts.level}", total=parts.rows, unit="records") as progress,
        table_writer(output / f"{parts.level}.parquet", KEPT) as writer,
    ):
        for first, batch in iterate(parts, columns, batch_rows=batch_rows):
            kept = np.ones(batch.num_rows, bool)
            for reason, rows, evidence in rules.judge(batch, tally):
                kept[rows] = False
                removed.add(parts.level, reason, batch["id"].take(pa.array(rows)), evidence)
            local = np.flatnonzero(kept)
            writer.write(
                {
                    "row": (first + local).astype(np.uint32),
                    "key": numbers(batch["key"])[local],
                    "length": numbers(batch["length"])[local],
                }
            )
            progress.advance(batch.num_rows)
        return writer.rows


def _by_level(tallies: dict[str, Tally], fact) -> dict[str, Any]:
    return {level: fact(tally) for level, tally in tallies.items()}


def _purge_facts(purge: PurgeList, paths: Sequence[Path | str], tallies: dict[str, Tally]) -> dict[str, Any]:
    return {
        "files": [Path(path).name for path in paths],
        "ids": len(purge.keys),
        "repeated_lines": purge.duplicates,
        "ids_found": _by_level(tallies, lambda tally: len(tally.purged)),
    }


def _letters(totals: np.ndarray) -> dict[str, int]:
    """Occurrences of each letter that occurs."""
    return {chr(byte): int(totals[byte]) for byte in np.flatnonzero(totals)}
