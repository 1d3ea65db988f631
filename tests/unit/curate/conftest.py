"""Records on disk, as the records stage writes them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.core.ids import key_of

SCHEMA = pa.schema(
    [
        ("key", pa.uint64()),
        ("id", pa.string()),
        ("taxon_id", pa.int32()),
        ("rep_taxon_id", pa.int32()),
        ("member_count", pa.int32()),
        ("listed_members", pa.int32()),
        ("representative", pa.string()),
        ("length", pa.int32()),
        ("other_taxa", pa.list_(pa.struct([("taxon_id", pa.int32()), ("member_key", pa.uint64())]))),
        ("fragment", pa.bool_()),
        ("sequence", pa.string()),
    ]
)


def write_records(directory: Path, level: str, records: list[dict], parts: int = 2) -> None:
    """records: dicts with `id` (without the level's prefix), `sequence` and any other column."""
    prefix = {"uniref50": "UniRef50_", "uniref90": "UniRef90_"}[level]
    folder = directory / level
    folder.mkdir(parents=True)
    rows = [
        {"taxon_id": 9606, "rep_taxon_id": None, "member_count": 1, "representative": None}
        | record
        | {"key": key_of(record["id"]), "id": prefix + record["id"], "length": len(record["sequence"])}
        for record in records
    ]
    cuts = [len(rows) * part // parts for part in range(parts + 1)]
    for part in range(parts):
        table = pa.Table.from_pylist(rows[cuts[part] : cuts[part + 1]], schema=SCHEMA)
        pq.write_table(table, folder / f"records-{part:03d}-of-{parts:03d}.parquet")
    counts = {"in": len(rows), "kept": len(rows), "removed": {}}
    (folder / "counts.json").write_text(json.dumps({"stage": "records", "levels": {level: counts}}))


@pytest.fixture
def make_records(tmp_path):
    """Function that writes records of levels and returns their directory."""

    def make(levels: dict[str, list[dict]], **options) -> Path:
        directory = tmp_path / "records"
        for level, records in levels.items():
            write_records(directory, level, records, **options)
        return directory

    return make
