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
from unirefine.curate.exclude import check_selection, make_criteria, not_found
from unirefine.curate.rules import ARTIFICIAL, PURGE_LIST, Criterion, Rules, Tally
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
    jackhmmer. The rules are applied in the order that `unirefine.curate.rules.Rules` states. Raises UserError for
    records that are missing or do not match their counts, and for lists or a taxonomy that cannot be read.
    """
    records, output = Path(records), Path(output)
    parts = {level: record_parts(records, level) for level in levels}
    for level in levels:
        _check_counts(records, parts[level])
    rules = Rules(config=config, criteria=make_criteria(config, taxdump, purge_lists), threads=threads)
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
        notes = check_selection(config, rules.criteria, list(tallies.values()))
        notes += [f"nothing is left of {level}" for level, count in counts.items() if not count["kept"]]
        write_text(output / NOT_FOUND, not_found(rules.criteria, list(tallies.values())))
    taxonomy = _taxonomy_facts(config, rules.criteria, tallies)
    facts = {
        "taxonomy": taxonomy | {"records_with_unknown_taxon": _by_level(tallies, lambda tally: tally.unknown_taxa)},
        "purge_lists": _purge_facts(rules.criteria, purge_lists, tallies),
    }
    if config.exclude:
        facts["exclude"] = {entry.name: entry.model_dump(mode="json", exclude={"name"}) for entry in config.exclude}
    if rules.reads_letters:
        facts["letters"] = _by_level(tallies, lambda tally: _letters(tally.letters))
    for one in rules.criteria:
        if one.designs and one.reason == "de_novo_design":
            facts["designs"] = {"queries": len(one.designs), "evalue": one.evalue}
    write_counts(output / "counts.json", "curate", counts, **facts)
    step = lineage.step("curate", config, counts=counts, inputs=list(config.files))
    lineage.write(output, step, [records / level for level in levels])
    delete_stale(output, "curate", [*(f"{level}.parquet" for level in levels), *_ALWAYS])
    return Curated(counts, taxonomy, notes)


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


def _taxonomy_facts(config: Curate, criteria: Sequence[Criterion], tallies: dict[str, Tally]) -> dict[str, Any]:
    artificial = next((one.taxa for one in criteria if one.reason == ARTIFICIAL), None)
    sources = [one.taxa.source for one in criteria if one.taxa]
    facts = {
        "source": sources[0] if sources else "none",
        "roots": list(config.artificial_taxa),
        "artificial_taxa": int((artificial.root > 0).sum()) if artificial else 0,
    }
    if config.artificial_members != "none":
        facts["kept_with_artificial_members"] = _by_level(tallies, lambda tally: tally.artificial_members)
    return facts


def _purge_facts(
    criteria: Sequence[Criterion], paths: Sequence[Path | str], tallies: dict[str, Tally]
) -> dict[str, Any]:
    purge = next((one.purge for one in criteria if one.reason == PURGE_LIST), None)
    return {
        "files": [Path(path).name for path in paths],
        "ids": len(purge.names) if purge else 0,
        "repeated_lines": purge.duplicates if purge else 0,
        "ids_found": _by_level(tallies, lambda tally: len(tally.purged[PURGE_LIST])),
    }


def _letters(totals: np.ndarray) -> dict[str, int]:
    """Occurrences of each letter that occurs."""
    return {chr(byte): int(totals[byte]) for byte in np.flatnonzero(totals)}
