"""Tables and their labels: what is read, what is found, and what is refused in one line."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.errors import UserError
from unirefine.finetune import table, tasks

SEQUENCES = ["MKVLAW", "MKTAYI", "GGSWQR", "LLKDER", "MPQRST", "AAWWKL", "HILKMN", "PQRSTV", "WYACDE", "FGHIKL"]


def written(directory, header, *rows, name="t.csv", separator=","):
    path = directory / name
    path.write_text("\n".join(separator.join(map(str, row)) for row in (header, *rows)) + "\n")
    return path


def labelled(directory, labels, **options):
    rows = [(f"p{at}", sequence, label) for at, (sequence, label) in enumerate(zip(SEQUENCES, labels, strict=True))]
    return table.read(written(directory, ("id", "sequence", "y"), *rows, **options))


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        ([0.5, 1.5, 2, "", 3, 4, 5, 6, 7, 8.25], "regression", []),
        (range(10), "regression", []),
        ([0, 1] * 5, "binary", ["0", "1"]),
        (["yes", "no"] * 5, "binary", ["no", "yes"]),
        (["a", "b", "none"] * 3 + ["NA"], "multiclass", ["a", "b", "none"]),
        (["a;b", "a", "b", "", "b; a", "a", "b", "a", "b", "a"], "multilabel", ["a", "b"]),
        (["HHEE-?", "------", ""] + ["EEEEEE"] * 7, "residue", ["-", "E", "H"]),
    ],
)
def test_what_the_labels_are(labels, task, classes, tmp_path):
    data = labelled(tmp_path, list(labels))
    (target,) = tasks.find(data, [], "auto", [])
    assert (target.task, target.classes) == (task, classes)
    missing = [label in ("", "NA") for label in labels]
    assert target.labelled.tolist() == [not one for one in missing]
    assert f"{10 - sum(missing)} labelled" in target.said() and task in target.said().replace("for each", "residue")


def test_values_of_sets_and_residues(tmp_path):
    (sets,) = tasks.find(labelled(tmp_path, ["a;b", "b"] * 5), [], "auto", [])
    assert [value.tolist() for value in sets.values[:2]] == [[1, 1], [0, 1]]
    (residues,) = tasks.find(labelled(tmp_path, ["HHEE?E"] * 10), [], "auto", [])
    assert np.array_equal(residues.values[0], [1, 1, 0, 0, np.nan, 0], equal_nan=True)


def test_the_same_table_in_every_form(tmp_path):
    rows = [(f"p{at}", sequence, at + 0.5) for at, sequence in enumerate(SEQUENCES)]
    plain = table.read(written(tmp_path, ("id", "sequence", "y"), *rows))
    tabs = table.read(written(tmp_path, ("id", "sequence", "y"), *rows, name="t.tsv", separator="\t"))
    names, sequences, labels = (list(column) for column in zip(*rows, strict=True))
    pq.write_table(pa.table({"id": names, "sequence": sequences, "y": labels}), tmp_path / "t.parquet")
    (tmp_path / "t.fasta").write_text(
        "".join(f">{name} x\n{text}\n" for name, text in zip(names, sequences, strict=True))
    )
    joined = table.read(
        written(tmp_path, ("id", "y"), *[(a, c) for a, _, c in rows], name="j.csv"), tmp_path / "t.fasta"
    )
    forms = [plain, tabs, table.read(tmp_path / "t.parquet"), joined]
    assert len({form.digest for form in forms}) == 1


def test_the_form_of_proteingym(tmp_path):
    header = ("mutant", "mutated_sequence", "DMS_score", "DMS_score_bin")
    rows = [(f"A{at}C", sequence, at / 7, at % 2) for at, sequence in enumerate(SEQUENCES)]
    data = table.read(written(tmp_path, header, *rows))
    assert data.ids[1] == "A1C" and [one.name for one in tasks.find(data, [], "auto", [])] == ["DMS_score"]


OK = [("p0", "MKVLAW", 1)]


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        (("id", "seq", "y"), OK, "no column `sequence`; it has 'id', 'seq', 'y'"),
        (("id", "sequence", "y"), [], "no row below the header"),
        (("id", "sequence", "y", "y"), [(*OK[0], 2)], "column 'y' is there twice"),
        (("id", "sequence", "y"), [*OK, ("p0", "MKV", 2)], "id 'p0' is there twice, first in {path}:2"),
        (("id", "sequence", "y"), [*OK, ("p1", "MK1V", 2)], "{path}:3: a number in a sequence"),
        (("id", "sequence", "y"), [*OK, ("p1", "MK-V", 2)], "{path}:3: `-` in a sequence"),
        (("id", "sequence", "y"), [*OK, ("p1", "", 2)], "{path}:3: an entry without residues"),
        (("id", "sequence", "y"), [*OK, ("p1", "MKV", 2, 3)], "{path}:3: 4 cells under a header of 3"),
        (("id", "sequence", "y"), [("a", "ACGTTGCA" * 9, 1)], "nucleotides, not proteins"),
    ],
)
def test_a_table_that_is_refused(header, rows, said, tmp_path):
    path = written(tmp_path, header, *rows)
    with pytest.raises(UserError) as error:
        table.read(path)
    assert said.format(path=path) in error.value.line()


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        ([1] * 10, "auto", "one class only ('1')"),
        ([1.5] * 10, "auto", "the same number everywhere (1.5)"),
        ([""] * 10, "auto", "no label in any row"),
        ([1.5, 2, "x"] + [3.5] * 7, "auto", ":4, column 'y': 'x' is not a finite number"),
        ([1.5, "inf"] + [3.5] * 8, "auto", ":3, column 'y': 'inf' is not a finite number"),
        (["HHHHHH"] * 9 + ["HHEHH"], "auto", ":11: column 'y' has 5 letters for 6 residues"),
        (["HHHHHH"] * 10, "auto", "one class only ('H')"),
        ([f"word{at}" for at in range(10)], "auto", "neither numbers nor classes: 10 different texts in 10 rows"),
        (["a", "b", "c"] * 3 + ["a"], "binary", "3 classes, and binary has 2"),
    ],
)
def test_labels_that_are_refused(labels, task, said, tmp_path):
    data = labelled(tmp_path, labels)
    with pytest.raises(UserError) as error:
        tasks.find(data, [], task, [])
    assert said in error.value.line()


def test_columns_that_are_refused(tmp_path):
    data = table.read(written(tmp_path, ("sequence", "a", "b"), *[(one, 1, 2) for one in SEQUENCES]))
    for wanted, said in ([], "several columns could be labels: 'a', 'b'"), (["c"], "no column 'c'; it has 'a', 'b'"):
        with pytest.raises(UserError, match=said):
            tasks.find(data, wanted, "auto", [])
