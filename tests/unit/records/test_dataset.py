"""Data sets that state clusters and sides: NVIDIA's Parquet, and BioNeMo 2's files."""

import contextlib
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from minisite.datasets import write_bionemo, write_parquet

from unirefine.config import Expected, Records
from unirefine.core.ids import key_of
from unirefine.core.tables import find_parts
from unirefine.errors import UserError
from unirefine.records.run import run

K = ["P12345", "Q6GZX4", "A0A009IHW8", "P10636", "O00001"]
TRAIN = [
    (f"UniRef50_{K[0]}", f"UniRef90_{K[0]}", "MKV"),
    (f"UniRef50_{K[1]}", f"UniRef90_{K[2]}", "MKVAA*"),
    (f"UniRef50_{K[0]}", f"UniRef90_{K[3]}", "mkvc"),
    (f"UniRef50_{K[1]}", "UniRef90_UPI0000000001", "MKL"),
]
VALIDATION = [(f"UniRef50_{K[4]}", f"UniRef90_{K[4]}", "MKW")]


@pytest.fixture
def built(tmp_path):
    """(train rows, validation rows, how to write them, level, options) -> rows of the level; `.counts`, `.members`."""

    def build(train=TRAIN, validation=VALIDATION, write=write_parquet, level="uniref90", change=None, **options):
        source = tmp_path / f"set-{len(list(tmp_path.iterdir()))}"
        write(source, train, validation)
        if change:
            change(source)
        done = run(Records(**{"parts": 2, **options}), level, source, tmp_path / "out", threads=2)
        build.facts, build.counts = done.facts, done.counts
        members = find_parts(tmp_path / "out", level, "members")
        build.members = sorted(
            (row["cluster_key"], row["member_key"])
            for path in (members.paths if members else ())
            for row in pq.read_table(path).to_pylist()
        )
        parts = find_parts(tmp_path / "out", level)
        return [row for path in parts.paths for row in pq.read_table(path).to_pylist()]

    return build


@pytest.mark.parametrize("write", [write_parquet, write_bionemo])
def test_every_row_is_a_uniref90_record_with_its_cluster_and_side(built, write):
    found = {row["id"]: (row["sequence"], row["given_side"], row["fragment"]) for row in built(write=write)}
    expected = {member: (sequence.upper().rstrip("*"), 0, None) for _cluster, member, sequence in TRAIN}
    assert found == expected | {VALIDATION[0][1]: ("MKW", 1, None)}
    assert sides(built) == {"train": 4, "validation": 1}
    assert built.facts["entries_upper_cased"] == 1 and built.facts["entries_with_trailing_stop_cut"] == 1
    names = {"UniRef50_Q6GZX4": K[2] if write is write_bionemo else K[1]}  # BioNeMo's clusters have no names
    expected = [
        (key_of(member.partition("_")[2]), key_of(names.get(cluster, cluster.partition("_")[2])))
        for cluster, member, _sequence in TRAIN + VALIDATION
    ]
    assert built.members == sorted(expected)


@pytest.mark.parametrize("write", [write_parquet, write_bionemo])
def test_a_cluster_is_represented_by_the_member_of_its_name_or_else_of_the_smallest_key(built, write):
    found = {row["id"]: (row["sequence"], row["given_side"]) for row in built(write=write, level="uniref50")}
    assert min(key_of(K[2]), key_of("UPI0000000001")) == key_of(K[2])
    second = f"UniRef50_{K[2 if write is write_bionemo else 1]}"
    assert found == {f"UniRef50_{K[0]}": ("MKV", 0), second: ("MKVAA", 0), f"UniRef50_{K[4]}": ("MKW", 1)}
    assert sides(built) == {"train": 2, "validation": 1} and not built.members


def test_validation_may_lack_uniref90_ids_and_ids_may_be_anyones(built):
    def without(source):
        table = pq.read_table(source / "validation/000.parquet")
        pq.write_table(table.drop_columns(["ur90_id"]), source / "validation/000.parquet")

    assert {row["id"] for row in built(change=without)} >= {f"UniRef90_{K[4]}"}
    own = [("a", "a", "MKV"), ("a", "b", "MKVA"), ("c", "c", "MLK")], [("v", "v", "MKW")]
    assert [row["id"] for row in built(*own, level="uniref50")] == ["a", "c", "v"]


def test_text_may_be_large_or_a_dictionary_and_test_is_a_side(built):
    def change(source):
        table = pq.read_table(source / "train/000.parquet")
        columns = [table[0].cast(pa.large_string()), table[1], table[2].dictionary_encode()]
        pq.write_table(pa.table(columns, names=table.schema.names), source / "train/000.parquet")
        (source / "test").mkdir()
        other = pa.table({"ur50_id": ["UniRef50_P99999"], "ur90_id": [None], "sequence": ["MK"]})
        pq.write_table(other.cast(table.schema), source / "test/x.parquet")

    assert len(built(change=change)) == 6
    assert sides(built) == {"train": 4, "validation": 1, "test": 1}


def sides(built):
    return {name: side["records"] for name, side in built.facts["sides"].items()}


def replaced(column, row, value, file="train/000.parquet"):
    """A change of one value of a Parquet file."""

    def change(source):
        table = pq.read_table(source / file)
        values = table[column].to_pylist()
        values[row] = value
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(values))
        pq.write_table(table, source / file)

    return change


def truncated(source):
    path = source / "train/001.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def renamed(source):
    table = pq.read_table(source / "train/002.parquet")
    pq.write_table(table.rename_columns(["cluster", "ur90_id", "sequence"]), source / "train/002.parquet")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (replaced("sequence", 1, None), r"train/000.parquet: row 2 has no sequence"),
        (replaced("ur50_id", 0, None), r"train/000.parquet: row 1 has no ur50_id"),
        (replaced("ur90_id", 1, ""), r"train/000.parquet: row 2 has no ur90_id"),
        (replaced("sequence", 0, "MK1"), r"90_P12345 \(train/000.parquet row 1\): '1' in the sequence, at residue 3"),
        (replaced("sequence", 0, ""), r"UniRef90_P12345 \(train/000.parquet row 1\): empty sequence"),
        (replaced("ur90_id", 1, "UniRef50_P12345"), r"000.parquet row 2: 'UniRef50_P12345' in ur90_id is not a"),
        (replaced("ur50_id", 1, "UniRef50_a b"), r"train/000.parquet row 2: .* in ur50_id is no usable id"),
        (
            replaced("ur90_id", 0, f"UniRef90_{K[0]}", "validation/000.parquet"),
            r"there twice: UniRef90_P12345 \(train/000.parquet row 1 and validation/000.parquet row 1\)",
        ),
        (truncated, r"train/001.parquet: damaged"),
        (renamed, r"train/002.parquet: no column 'ur50_id'; it has cluster, ur90_id, sequence"),
        (lambda source: (source / "validation/000.parquet").unlink(), r"no Parquet files in validation/"),
        (lambda source: pq.write_table(
            pa.table({"ur50_id": [1], "ur90_id": ["a"], "sequence": ["M"]}), source / "train/000.parquet"
        ), r"column 'ur50_id' is int64, not string"),
    ],
)  # fmt: skip
def test_a_malformed_data_set_is_one_line(built, tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        built(change=change)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_cluster_on_two_sides_and_other_counts_are_refused(built):
    both = [*VALIDATION, (f"UniRef50_{K[0]}", "UniRef90_P99999", "MK")]
    says = r"cluster UniRef50_P12345 is on two sides: train/000.parquet row 1 and validation/000.parquet row 2"
    with pytest.raises(UserError, match=says):
        built(validation=both, level="uniref50")
    expected = Expected(train_sequences=4, train_clusters=2, validation_sequences=1, validation_clusters=2)
    built(expected=expected)
    with pytest.raises(UserError, match=r"1 clusters of validation, but records.expected.validation_clusters is 2"):
        built(expected=expected, level="uniref50")


def test_bad_rows_can_be_left_out(built, tmp_path):
    found = built(change=replaced("sequence", 0, "MK1"), bad_entries="remove")
    assert len(found) == 4 and built.counts == {"in": 5, "kept": 4, "removed": {"invalid_byte": 1}}
    removed = pq.read_table(tmp_path / "out/uniref90/removed.parquet").to_pylist()
    assert removed[0]["evidence"] == "train/000.parquet row 1: '1' in the sequence, at residue 3"


def sql(*statements, name="train.db"):
    """A change of a database."""

    def change(source):
        with contextlib.closing(sqlite3.connect(source / name)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return change


def clusters(column, values, name="train_clusters.parquet"):
    return lambda source: pq.write_table(pa.table({column: values}), source / name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda source: (source / "validation.db").unlink(), r"validation.db: no such file; a data set of BioNeMo"),
        (lambda source: (source / "train.db").write_bytes(b"no database" * 100), r"train.db: not a readable SQLite"),
        (sql("ALTER TABLE protein RENAME TO proteins"), r"train.db: no table `protein`"),
        (sql("ALTER TABLE protein RENAME COLUMN sequence TO residues"), r"no column 'sequence'; it has id, residues"),
        (
            sql("ALTER TABLE protein RENAME TO p", "CREATE VIEW protein AS SELECT id, sequence FROM p"),
            r"`protein` is no plain table",
        ),
        (sql("UPDATE protein SET sequence = NULL WHERE rowid = 2"), r"train.db: sequence of row 2 is missing"),
        (sql("UPDATE protein SET sequence = X'FF' WHERE rowid = 3"), r"train.db: sequence of row 3 is no ASCII text"),
        (sql("DELETE FROM protein WHERE rowid = 1"), r"1 ids of train_clusters.parquet are not in it, such as one of"),
        (clusters("ur90_id", ["UniRef90_P12345"]), r"column 'ur90_id' is string, not a list of strings"),
        (clusters("members", [["a"]]), r"train_clusters.parquet: no column 'ur90_id'; it has members"),
        (clusters("ur90_id", [["UniRef90_P12345"], []]), r"row 2 has no members"),
        (
            clusters("ur90_id", [["UniRef90_P12345"], ["UniRef90_P12345"]]),
            r"1 ids are listed twice, the first in the clusters UniRef50_P12345 and UniRef50_P12345",
        ),
        (clusters("ur50_id", ["UniRef90_O00001"], "valid_clusters.parquet"), r"'UniRef90_O00001' is not a UniRef50 id"),
    ],
)  # fmt: skip
def test_malformed_files_of_bionemo_are_one_line(built, change, says):
    with pytest.raises(UserError, match=says):
        built(write=write_bionemo, change=change)


def test_proteins_that_no_cluster_lists_are_left_out(built):
    found = built(write=write_bionemo, change=sql("INSERT INTO protein VALUES ('UniRef90_P00000', 'MK')"))
    assert len(found) == 5
