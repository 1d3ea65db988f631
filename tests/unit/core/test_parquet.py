"""Damage in a Parquet file is one line, or changes nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.core import parquet
from unirefine.core.tables import iterate_file, open_parquet, table_writer
from unirefine.errors import UserError

SCHEMA = pa.schema([("id", pa.string()), ("row", pa.uint32()), ("side", pa.int32())])


def columns(count=60):
    return {
        "id": pa.array([f"UniRef90_P{i:05d}" for i in range(count)]),
        "row": np.arange(count, dtype=np.uint32),
        "side": pa.array([None if i % 7 == 0 else i for i in range(count)], pa.int32()),
    }


@pytest.fixture
def path(tmp_path):
    with table_writer(tmp_path / "x.parquet", SCHEMA, {"level": "uniref50"}) as writer:
        writer.write(columns())
    return tmp_path / "x.parquet"


def read(path):
    with open_parquet(path, "cluster") as file:
        table = pa.Table.from_batches(list(file.iter_batches(25)), file.schema_arrow)
        return table, (file.metadata.metadata or {}).get(b"level")


def test_anybody_reads_what_is_written(path):
    table, level = read(path)
    assert table.to_pydict() == pq.read_table(path, page_checksum_verification=True).to_pydict()
    assert table["row"].to_pylist() == list(range(60)) and level == b"uniref50"
    with open_parquet(path, "cluster") as file:
        assert file.has_checksums


def test_a_flipped_bit_anywhere_is_one_line_or_changes_nothing(path):
    raw, expected = path.read_bytes(), read(path)
    refused = 0
    for byte in range(0, len(raw), 5):
        flipped = bytearray(raw)
        flipped[byte] ^= 1 << byte % 8
        path.write_bytes(flipped)
        try:
            table, level = read(path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error) and "cluster stage again" in str(error), byte
        else:
            assert table.to_pydict() == expected[0].to_pydict(), byte
            # one bit can hide all metadata; a stage that needs some says that there is none
            assert level in (expected[1], None), byte
    assert refused > len(raw) / 10


@pytest.mark.parametrize("count", [0, 1, 130])
def test_rows_of_every_row_group_are_part_of_the_footers_digest(tmp_path, count):
    table = pa.table(columns(count), schema=SCHEMA)
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=50)
    with open_parquet(tmp_path / "x.parquet", "x") as file:
        assert file.read().equals(table)
        rows = [file.read_row_group(i).num_rows for i in range(file.num_row_groups)]
    assert rows == {0: [0], 1: [1], 130: [50, 50, 30]}[count]


def test_a_file_of_somebody_else_is_read(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "x.parquet")
    assert [batch.column(0).to_pylist() for _row, batch in iterate_file(tmp_path / "x.parquet", ["id"], "x")] == [["a"]]


def test_a_table_that_somebody_has_read_changed_and_written_is_read(path, tmp_path):
    """pyarrow writes the metadata of a table that it has read, with the digest of the file that this was."""
    table = pq.read_table(path)
    pq.write_table(table.slice(7), tmp_path / "again.parquet")
    assert read(tmp_path / "again.parquet")[0].num_rows == 53
    parquet.write_table(read(path)[0].slice(50), tmp_path / "ours.parquet", row_group_size=4)
    with open_parquet(tmp_path / "ours.parquet", "x") as file:
        assert file.has_checksums and file.read()["row"].to_pylist() == list(range(50, 60))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>", b"PAR1" + bytes(40) + b"PAR1"])
def test_what_is_no_parquet_is_one_line(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.parquet: damaged: .*; run the split stage again"):
        open_parquet(tmp_path / "x.parquet", "split")
