import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.core import tables
from unirefine.core.tables import (
    find_parts,
    iterate_file,
    open_parquet,
    read_column,
    record_parts,
    string_buffers,
    strings_at,
    table_writer,
    take_strings,
)
from unirefine.errors import UserError

SCHEMA = pa.schema([("number", pa.int32()), ("name", pa.string())])


def write_parts(directory, level, sizes, row_group=4):
    folder = directory / level
    folder.mkdir(parents=True)
    start = 0
    for part, size in enumerate(sizes):
        numbers = list(range(start, start + size))
        table = pa.table({"number": pa.array(numbers, pa.int32()), "name": [f"n{number}" for number in numbers]})
        path = folder / f"records-{part:03d}-of-{len(sizes):03d}.parquet"
        pq.write_table(table, path, row_group_size=row_group)
        start += size
    return directory


def test_rows_count_through_the_parts_in_order(tmp_path):
    parts = record_parts(write_parts(tmp_path, "uniref50", [5, 0, 9, 1]), "uniref50")
    assert parts.first_row == (0, 5, 5, 14, 15)
    assert read_column(parts, "number", np.int64).tolist() == list(range(15))


@pytest.mark.parametrize("rows", [[], [0], [14], [3, 4, 5, 6], [0, 4, 4, 13, 14], list(range(15))])
def test_strings_at_rows(tmp_path, rows):
    parts = record_parts(write_parts(tmp_path, "uniref50", [5, 0, 9, 1]), "uniref50")
    assert strings_at(parts, "name", np.array(rows, np.int64)).to_pylist() == [f"n{row}" for row in rows]


@pytest.mark.parametrize("rows", [[], [14], [9, 0, 9, 14, 3, 0]])
def test_take_strings_in_any_order(tmp_path, rows):
    parts = record_parts(write_parts(tmp_path, "uniref50", [5, 0, 9, 1]), "uniref50")
    assert take_strings(parts, "name", np.array(rows, np.uint32)).to_pylist() == [f"n{row}" for row in rows]


def test_a_missing_part_a_second_set_and_no_part(tmp_path):
    assert find_parts(tmp_path, "uniref50") is None
    with pytest.raises(UserError, match="no uniref50 records"):
        record_parts(tmp_path, "uniref50")
    write_parts(tmp_path, "uniref50", [1, 1, 1])
    (tmp_path / "uniref50" / "records-001-of-003.parquet").rename(tmp_path / "kept")
    with pytest.raises(UserError, match="not the whole of one set"):
        record_parts(tmp_path, "uniref50")
    (tmp_path / "kept").rename(tmp_path / "uniref50" / "records-000-of-001.parquet")
    with pytest.raises(UserError, match=r"sets of \[1, 3\]"):
        record_parts(tmp_path, "uniref50")


def test_parts_of_one_count_but_with_a_wrong_number_are_not_a_set(tmp_path):
    write_parts(tmp_path, "uniref50", [1, 1])
    (tmp_path / "uniref50" / "records-000-of-002.parquet").rename(tmp_path / "uniref50" / "records-002-of-002.parquet")
    with pytest.raises(UserError, match="not the whole of one set"):
        record_parts(tmp_path, "uniref50")


def test_where_the_directory_is_gone_too_the_message_says_so(tmp_path):
    with pytest.raises(UserError, match=r"no such file; run the split stage again"):
        open_parquet(tmp_path / "split.parquet", "split")
    with pytest.raises(UserError, match=r"see whether this machine has lost .*/split/, else run the split stage again"):
        open_parquet(tmp_path / "split" / "split.parquet", "split")


@pytest.mark.parametrize(("kind", "dtype"), [(pa.string(), np.int32), (pa.large_string(), np.int64)])
@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["ab", "", "cde", "f"]])
def test_buffers_of_strings_and_of_their_slices(kind, dtype, texts):
    column = pa.array(texts, kind)
    for start in range(len(texts) + 1):
        for end in range(start, len(texts) + 1):
            raw, offsets = string_buffers(column.slice(start, end - start))
            assert raw.dtype == np.uint8 and offsets.dtype == dtype
            found = [raw[low:high].tobytes().decode() for low, high in itertools.pairwise(offsets)]
            assert found == texts[start:end]


def test_buffers_are_no_copies_and_have_no_nulls():
    column = pa.array(["ab", "c", None])
    raw, offsets = string_buffers(column.slice(0, 2))
    assert (raw.ctypes.data, offsets.ctypes.data) == (column.buffers()[2].address, column.buffers()[1].address)
    with pytest.raises(AssertionError, match="has nulls"):
        string_buffers(column)


def test_a_torn_file_and_a_missing_column_name_the_stage(tmp_path):
    write_parts(tmp_path, "uniref50", [5])
    path = tmp_path / "uniref50" / "records-000-of-001.parquet"
    with pytest.raises(UserError, match="no column 'key'; run the records stage again"):
        list(iterate_file(path, ["key"], "records"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"damaged: .*; run the records stage again"):
        record_parts(tmp_path, "uniref50")


def test_row_groups_do_not_depend_on_how_rows_arrive(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 8)
    numbers = np.arange(20, dtype=np.int32)
    names = pa.array([f"n{number % 3}" for number in numbers])
    for file, cuts in (("a", [0, 20]), ("b", [0, 1, 7, 7, 17, 20])):
        with table_writer(tmp_path / file, SCHEMA, {"level": "uniref90"}) as writer:
            for low, high in itertools.pairwise(cuts):
                writer.write({"number": numbers[low:high], "name": names.slice(low, high - low)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    metadata = pq.ParquetFile(tmp_path / "a").metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [8, 8, 4]
    assert metadata.metadata[b"level"] == b"uniref90"
    assert pq.read_table(tmp_path / "a")["name"].to_pylist() == names.to_pylist()


def test_no_rows_make_a_readable_file_and_a_failure_makes_none(tmp_path):
    with table_writer(tmp_path / "empty", SCHEMA):
        pass
    assert pq.read_table(tmp_path / "empty").schema.names == ["number", "name"]
    with pytest.raises(KeyError), table_writer(tmp_path / "failed", SCHEMA) as writer:
        writer.write({"number": np.arange(2, dtype=np.int32), "name": pa.array(["a", "b"])})
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array(["1", "2"]), "column 'row' is string, not uint32"),
        (pa.array([1, 2], pa.int64()), "column 'row' is int64, not uint32"),
        (pa.array([1, None], pa.uint32()), "column 'row' has empty values"),
    ],
)
def test_a_column_of_another_type_or_with_nulls_is_refused(tmp_path, column, what):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"row": column}), path)
    with pytest.raises(UserError, match=f"{what}; run the curate stage again"):
        list(iterate_file(path, ["row"], "curate"))
