import os
import stat

import pytest

from unirefine.errors import UserError
from unirefine.files.atomic import atomic_path, read_json, temporary_directory


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "deep" / "value.json"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["value.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def leftovers(path, kind="tmp"):
    """What a killed writer of `path` leaves: a file or, as some do, a directory with something in it."""
    file, directory = (path.with_name(f".{path.name}.{token * 12}.{kind}") for token in "ab")
    file.write_text("half")
    directory.mkdir()
    (directory / "0.parquet").write_text("half")
    return file, directory


def test_the_next_writer_deletes_what_a_killed_one_left_and_nothing_else(tmp_path):
    path = tmp_path / "a[1].parquet"
    deleted = leftovers(path)
    others = [*leftovers(tmp_path / "b.parquet"), *leftovers(tmp_path / "a[1].parquet.json"), *leftovers(path, "runs")]
    with atomic_path(path) as temporary:
        assert not any(left.exists() for left in deleted)
        temporary.write_text("new")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_of_two_writers_the_last_one_to_begin_wins_and_the_other_fails(tmp_path):
    path = tmp_path / "value.json"
    with pytest.raises(UserError, match=r"value\.json: .*\.value\.json\.\w+\.tmp is gone: another process writes it"):  # noqa: SIM117
        with atomic_path(path) as first:
            first.write_text("first")
            with atomic_path(path) as second:
                second.write_text("second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_directory_is_new_and_does_not_stay(tmp_path):
    left = leftovers(tmp_path / "search")
    with pytest.raises(RuntimeError), temporary_directory(tmp_path / "search") as directory:
        (directory / "x").write_text("x")
        assert list(tmp_path.iterdir()) == [directory]
        assert directory not in left
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_reading_json_that_is_not_there_or_not_json(tmp_path):
    with pytest.raises(UserError, match="run the stage that writes it"):
        read_json(tmp_path / "no.json")
    (tmp_path / "torn.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"torn\.json: not valid JSON"):
        read_json(tmp_path / "torn.json")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_any_new_file(tmp_path, mask):
    """Also when the writer makes a file of its own under the temporary name, with mode 0600, as safetensors does."""
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "x") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~mask
