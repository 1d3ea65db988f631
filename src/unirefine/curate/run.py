"""Curate: read the records of each level once; write the rows kept, and the removals with reason and evidence.

Memory: one batch of records, whatever the size of the release. Sequences are read only when a rule needs them.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.config import Curate
from unirefine.core.removed import Removed, removed_writer
from unirefine.core.tables import BATCH_ROWS, Parts, TableWriter, iterate, numbers, record_parts, table_writer
from unirefine.curate.purge import PurgeList, read_purge_lists
from unirefine.curate.rules import Rules, Tally
from unirefine.curate.taxonomy import PINNED_ROOT, artificial_taxa
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json, write_text
from unirefine.files.counts import level_counts, write_counts
from unirefine.files.written import delete_stale
from unirefine.progress import meter

NOT_FOUND = "purge_not_found.txt"
"""The listed ids that no record has, one a line with its list: itself a list of ids."""
KEPT = pa.schema([("row", pa.uint32()), ("key", pa.uint64()), ("length", pa.int32())])
_SEQUENCE_BATCH_ROWS = 1 << 14
_ALWAYS = ("removed.parquet", NOT_FOUND, "counts.json", "lineage.json")


@dataclass(frozen=True)
class Curated:
    """What curate kept and removed."""

    counts: dict[str, dict[str, Any]]
    """`{level: {in, kept, removed: {reason: n}}}`."""
    taxonomy: dict[str, Any]
    """`{source, roots, artificial_taxa, ...}`: the taxonomy used."""
    notes: list[str]
    """Lines to print: how much of each purge list was found, roots of taxa that no record is below."""


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
    # the tables appear together, when every check has passed
    with contextlib.ExitStack() as tables, removed_writer(output / "removed.parquet") as removed:
        for level in levels:
            tallies[level] = Tally()
            table = tables.enter_context(table_writer(output / f"{level}.parquet", KEPT))
            kept = _curate_level(
                replace(rules, database_size=parts[level].rows), parts[level], table, removed, tallies[level]
            )
            counts[level] = level_counts(parts[level].rows, kept, removed.counts.get(level, Counter()))
        found = set().union(*(tally.purged for tally in tallies.values()))
        notes = _check_selection(config, purge, found, set().union(*(tally.roots for tally in tallies.values())))
        notes += [f"nothing is left of {level}" for level, count in counts.items() if not count["kept"]]
        missing = "".join(f"{name}  # {source}\n" for name, source in purge.missing(found))
        write_text(output / NOT_FOUND, missing)
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
    return Curated(counts, taxonomy, notes)


def _check_selection(config: Curate, purge: PurgeList, found: set[int], roots: set[int]) -> list[str]:
    """What to print about the lists and taxa. Raises UserError when one of them selects nothing.

    found: positions of the listed ids that matched; roots: those that a taxon of a record is below. The default root
    may select nothing: it is asked for in every run, also where records have no taxa.
    """
    unused = [root for root in config.artificial_taxa if root not in roots]
    if not config.allow_unmatched:
        purge.refuse_useless(found)
        asked = [str(root) for root in unused if root != PINNED_ROOT]
        if asked:
            raise UserError(
                f"no record has a taxon at or below {', '.join(asked)} of curate.artificial_taxa",
                fix="check the numbers, give the taxonomy (release.taxdump), or set curate.allow_unmatched: true",
            )
    notes = [f"no record has a taxon at or below {root}" for root in unused]
    return [*purge.summary(found), *notes]


def _check_counts(records: Path, parts: Parts) -> None:
    path = records / parts.level / "counts.json"
    kept = read_json(path)["levels"][parts.level]["kept"]
    if kept != parts.rows:
        raise UserError(
            f"{kept} {parts.level} records, but their parts have {parts.rows}",
            where=path,
            fix="run the records stage again",
        )


def _curate_level(rules: Rules, parts: Parts, writer: TableWriter, removed: Removed, tally: Tally) -> int:
    """Curate one level; return the number of records kept."""
    columns = rules.columns()
    batch_rows = _SEQUENCE_BATCH_ROWS if "sequence" in columns else BATCH_ROWS
    with meter(f"curate {parts.level}", total=parts.rows, unit="records") as progress:
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
        "ids": len(purge.names),
        "repeated_lines": purge.duplicates,
        "ids_found": _by_level(tallies, lambda tally: len(tally.purged)),
    }


def _letters(totals: np.ndarray) -> dict[str, int]:
    """Occurrences of each letter that occurs."""
    return {chr(byte): int(totals[byte]) for byte in np.flatnonzero(totals)}
