"""Types of the columns that the stages write. A name has one type in all files."""

from pathlib import Path

import pyarrow as pa

from unirefine.errors import UserError

_TEXT = (pa.string(), pa.large_string())
_REAL = (pa.float32(), pa.float64())
_TYPES = {
    **dict.fromkeys(
        ("id", "cluster_id", "sequence", "representative", "level", "reason", "evidence", "query", "check"), _TEXT
    ),
    **dict.fromkeys(("benchmark", "action"), _TEXT),
    **dict.fromkeys(("key", "cluster_key", "member_key"), (pa.uint64(),)),
    **dict.fromkeys(("row", "cluster", "target", "size"), (pa.uint32(),)),
    **dict.fromkeys(("length", "taxon_id", "rep_taxon_id", "member_count", "listed_members"), (pa.int32(),)),
    **dict.fromkeys(("identity", "query_coverage", "target_coverage", "bits", "evalue"), _REAL),
    **dict.fromkeys(("all", "searched", "audited"), _REAL),
    **dict.fromkeys(("side", "given_side"), (pa.uint8(),)),
    "fragment": (pa.bool_(),),
}
_NULLABLE = {
    "representative", "taxon_id", "rep_taxon_id", "member_count", "listed_members", "all", "searched", "audited",
    "fragment", "given_side",
}  # fmt: skip


def check_columns(found: pa.Table | pa.RecordBatch, path: Path | str, stage: str, *, nulls: bool = False) -> None:
    """Raise UserError for a column of another type than its name promises, or with nulls where there can be none.

    stage: that wrote the file. nulls: whether any column may have nulls, as in a file that somebody else has written.
    """
    fix = f"run the {stage} stage again"
    for name, column in zip(found.schema.names, found.columns, strict=True):
        wanted = _TYPES.get(name)
        if wanted is None:
            continue
        if column.type not in wanted:
            raise UserError(f"column {name!r} is {column.type}, not {wanted[0]}", where=path, fix=fix)
        if column.null_count and not nulls and name not in _NULLABLE:
            raise UserError(f"column {name!r} has empty values", where=path, fix=fix)
