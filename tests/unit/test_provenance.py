import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirefine import provenance
from unirefine.errors import UserError


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "deep" / "value.json"
    with provenance.atomic_path(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["value.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), provenance.atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def leftovers(path, kind="tmp"):
    """What a writer of `path` leaves that was killed: a file and, as some do, a directory with something in it."""
    file, directory = (path.with_name(f".{path.name}.{token * 12}.{kind}") for token in "ab")
    file.write_text("half")
    directory.mkdir()
    (directory / "0.parquet").write_text("half")
    return file, directory


def test_what_a_killed_writer_left_goes_with_the_next_and_nothing_else_does(tmp_path):
    path = tmp_path / "a[1].parquet"
    own = leftovers(path)
    others = [*leftovers(tmp_path / "b.parquet"), *leftovers(tmp_path / "a[1].parquet.json"), *leftovers(path, "runs")]
    with provenance.atomic_path(path) as part:
        assert not any(left.exists() for left in own)
        part.write_text("new")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_of_two_writers_the_last_one_to_begin_wins_and_the_other_is_told(tmp_path):
    path = tmp_path / "value.json"
    with pytest.raises(UserError, match=r"value\.json: \.value\.json\.\w+\.tmp, .* another process writes it"):  # noqa: SIM117
        with provenance.atomic_path(path) as first:
            first.write_text("first")
            with provenance.atomic_path(path) as second:
                second.write_text("second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_aside_is_new_and_does_not_stay(tmp_path):
    left = leftovers(tmp_path / "search")
    with pytest.raises(RuntimeError), provenance.aside_directory(tmp_path / "search") as directory:
        (directory / "x").write_text("x")
        assert list(tmp_path.iterdir()) == [directory]
        assert directory not in left
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_sha256_of_a_file_is_hashlibs(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 9999)
    assert provenance.sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_the_hash_of_a_config_does_not_depend_on_key_order(value):
    backwards = dict(reversed(value.items()))
    assert provenance.sha256_json(value) == provenance.sha256_json(backwards)


def test_counts_must_add_up():
    assert provenance.level_counts(5, 3, {"long": 2, "never": 0}) == {"in": 5, "kept": 3, "removed": {"long": 2}}
    with pytest.raises(AssertionError):
        provenance.level_counts(5, 3, {"long": 1})


def test_counts_file(tmp_path):
    level = provenance.level_counts(1, 1, {})
    provenance.write_counts(tmp_path / "counts.json", "split", {"uniref50": level}, seed=3)
    written = json.loads((tmp_path / "counts.json").read_text())
    assert written == {"stage": "split", "levels": {"uniref50": level}, "seed": 3}


def test_reading_json_that_is_not_there_or_not_json(tmp_path):
    with pytest.raises(UserError, match="run the stage that writes it"):
        provenance.read_json(tmp_path / "no.json")
    (tmp_path / "torn.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"torn\.json: not valid JSON"):
        provenance.read_json(tmp_path / "torn.json")


def test_the_source_digest_names_what_it_covers():
    split = provenance.source_digest("split")
    assert split == provenance.source_digest("split")
    assert split != provenance.source_digest("split", "shards")
