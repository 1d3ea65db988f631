import pytest

from unirefine.files.atomic import read_json
from unirefine.files.counts import level_counts, write_counts


def test_counts_must_add_up():
    assert level_counts(5, 3, {"long": 2, "never": 0}) == {"in": 5, "kept": 3, "removed": {"long": 2}}
    with pytest.raises(AssertionError):
        level_counts(5, 3, {"long": 1})


def test_counts_file(tmp_path):
    level = level_counts(1, 1, {})
    write_counts(tmp_path / "counts.json", "split", {"uniref50": level}, seed=3)
    written = read_json(tmp_path / "counts.json")
    assert written == {"stage": "split", "levels": {"uniref50": level}, "seed": 3}
