import contextlib
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.core import removed as module
from unirefine.core.removed import removed_writer

ROWS = st.lists(
    st.tuples(st.sampled_from(["uniref50", "uniref90"]), st.text("AZ09é", max_size=4), st.sampled_from(["b", "a"])),
    max_size=40,
    unique_by=lambda row: row[:2],
)


def write(path, rows, run_rows, group):
    with removed_writer(path, run_rows=run_rows) as removed:
        for start in range(0, len(rows), group):
            for level, name, reason in rows[start : start + group]:
                removed.add(level, reason, [name], [f"because {name}"])
    return removed


@settings(deadline=None)
@given(ROWS, st.integers(1, 9))
def test_sorted_as_python_sorts_whatever_is_spilled(tmp_path_factory, rows, run_rows):
    path = tmp_path_factory.mktemp("removed") / "removed.parquet"
    done = write(path, rows, run_rows, 3)
    expected = sorted((level, reason, name) for level, name, reason in rows)
    table = pq.read_table(path).to_pylist()
    assert [(row["level"], row["reason"], row["id"]) for row in table] == expected
    assert all(row["evidence"] == f"because {row['id']}" for row in table)
    assert sum(sum(counts.values()) for counts in done.counts.values()) == len(rows)
    assert [entry.name for entry in path.parent.iterdir()] == ["removed.parquet"]


def test_bytes_do_not_depend_on_arrival_or_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MERGE_ROWS", 5)
    rows = [("uniref50", f"UniRef50_{number * 7919 % 1000:04d}", "ab"[number % 2]) for number in range(1000)]
    write(tmp_path / "a.parquet", rows, 10_000, 1000)
    write(tmp_path / "b.parquet", rows[::-1], 17, 9)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), removed_writer(tmp_path / "removed.parquet", run_rows=1) as removed:
        removed.add("uniref50", "a", ["x"], ["y"])
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_runs_that_a_killed_writer_spilled_are_deleted(tmp_path):
    with contextlib.suppress(KeyError), removed_writer(tmp_path / "removed.parquet", run_rows=1) as removed:
        removed.add("uniref50", "a", ["x"], ["y"])
        (spilled,) = tmp_path.iterdir()
        shutil.copytree(spilled, tmp_path / "kept")  # what kill -9 leaves
        raise KeyError
    (tmp_path / "kept").rename(spilled)
    write(tmp_path / "removed.parquet", [("uniref50", "x", "a")], 1, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["removed.parquet"]
