"""Parquet files in which damage is noticed: every page has a checksum, and the footer a digest of what it says.

Parquet's own checksums cover pages only. The footer says what the bytes of a page mean (names, types, nulls, rows) and
holds our metadata; its digest stands among the metadata, under FOOTER. Files without checksums, which others have
written, are read too.
"""

import base64
import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unirefine.errors import UserError

FOOTER = b"unirefine.footer"


class Writer(pq.ParquetWriter):
    """pyarrow's ParquetWriter, with page checksums and the digest of the footer."""

    def __init__(self, where: Any, schema: pa.Schema, **options: Any) -> None:
        options |= {"write_page_checksum": True}
        if schema.metadata and FOOTER in schema.metadata:  # of a file that was read
            schema = schema.with_metadata({key: value for key, value in schema.metadata.items() if key != FOOTER})
        empty = io.BytesIO()
        with pq.ParquetWriter(empty, schema, **options):
            pass
        with pq.ParquetFile(empty) as file:
            self._columns, self._metadata = _columns(file), dict(file.metadata.metadata or {})
        self._rows: list[int] = []
        super().__init__(where, schema, **options)

    def write_table(self, table: pa.Table, row_group_size: int | None = None) -> None:
        """Append a table in row groups of `row_group_size` rows."""
        assert row_group_size, "the rows of a row group decide the bytes of the file"
        super().write_table(table, row_group_size)
        full, rest = divmod(len(table), row_group_size)
        # an empty table is an empty row group
        self._rows += [row_group_size] * full + ([rest] if rest or not full else [])

    def close(self) -> None:
        """Write the footer."""
        if self.is_open:
            self.add_key_value_metadata({FOOTER: _digest(self._columns, self._metadata, self._rows)})
        super().close()


class File(pq.ParquetFile):
    """pyarrow's ParquetFile that raises UserError for damage, with the path and what to do.

    Checks every page that it reads against its checksum, where the file has them.
    """

    def __init__(self, path: Path | str, fix: str) -> None:
        """Open a file and check its footer. fix: what to do when the file is damaged."""
        self._path, self._fix = Path(path), fix
        with self._explained():
            super().__init__(self._path, page_checksum_verification=True)
            self._check_footer()

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """As pyarrow's."""
        with self._explained():
            table = super().read(columns, **options)
        self._check_rows(len(table), self.metadata.num_rows)
        return table

    def read_row_group(self, i: int, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """As pyarrow's."""
        with self._explained():
            table = super().read_row_group(i, columns, **options)
        self._check_rows(len(table), self.metadata.row_group(i).num_rows)
        return table

    def iter_batches(self, batch_size: int = 65536, **options: Any) -> Iterator[pa.RecordBatch]:
        """As pyarrow's, of the whole file."""
        with self._explained():
            batches = super().iter_batches(batch_size, **options)
        rows = 0
        while True:
            with self._explained():
                batch = next(batches, None)
            if batch is None:
                break
            rows += len(batch)
            yield batch
        self._check_rows(rows, self.metadata.num_rows)

    @property
    def has_checksums(self) -> bool:
        """Whether the file was written by `Writer`."""
        return FOOTER in (self.metadata.metadata or {})

    def damaged(self, what: str) -> UserError:
        """The error to raise for a file that is not as it was written."""
        return UserError(f"damaged: {what}", where=self._path, fix=self._fix)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (
            pa.ArrowInvalid,
            pa.ArrowNotImplementedError,
            pa.ArrowTypeError,
            pa.ArrowKeyError,
            UnicodeDecodeError,
        ) as error:
            raise self.damaged(str(error)) from None
        except OSError as error:
            if error.errno is not None or isinstance(error, FileNotFoundError):
                raise
            raise self.damaged(str(error)) from None

    def _check_rows(self, found: int, stated: int) -> None:
        """Arrow skips a page whose header says that it is of an unknown kind, and then there are fewer rows."""
        if found != stated:
            raise self.damaged(f"{found:,} rows instead of {stated:,}")

    def _check_footer(self) -> None:
        found = dict(self.metadata.metadata or {})
        stated = found.pop(FOOTER, None)
        if stated is None or _written_again(found.get(b"ARROW:schema", b"")):
            return
        rows = [self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups)]
        if stated != _digest(_columns(self), found, rows) or sum(rows) != self.metadata.num_rows:
            raise self.damaged("its footer is not what was written")


def _written_again(stored: bytes) -> bool:
    """Whether somebody has read one of our files and written the table with its metadata, the old digest among it.

    Arrow stores its schema with the metadata of the table; our digest is not in ours. stored: base64.
    """
    try:
        return FOOTER in base64.b64decode(stored)
    except ValueError:
        return False


def _columns(file: pq.ParquetFile) -> list[tuple]:
    """Names and types of a file's columns, for Arrow and in Parquet."""
    found: list[tuple] = [(field.name, str(field.type), field.nullable) for field in file.schema_arrow]
    stored = (file.schema.column(i) for i in range(len(file.schema)))
    return found + [
        (column.path, column.physical_type, column.max_definition_level, column.max_repetition_level)
        for column in stored
    ]


def _digest(columns: list[tuple], metadata: Mapping[bytes, bytes], rows: list[int]) -> bytes:
    """Hex SHA-256 of the columns of a file, its metadata and the rows of each row group."""
    said = (columns, sorted(metadata.items()), rows)
    return hashlib.sha256(repr(said).encode()).hexdigest().encode()


def write_table(table: pa.Table, path: Path | str, *, row_group_size: int, **options: Any) -> None:
    """Write a table to a file, not atomically. options: those of pyarrow's ParquetWriter."""
    with Writer(path, table.schema, **options) as writer:
        writer.write_table(table, row_group_size)
