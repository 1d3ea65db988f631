import os

import pytest

from unirefine import numba_cache

NOWHERE = "/proc/self/fdinfo"  # a directory in which nobody, root included, can create a file


@pytest.fixture
def directories(tmp_path, monkeypatch):
    """A source tree, a user's cache and TMPDIR; the variable is not set."""
    monkeypatch.delenv(numba_cache.VARIABLE, raising=False)
    monkeypatch.setattr(numba_cache.tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("src/core", "src/dataset", "cache", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def chosen() -> str | None:
    return os.environ.get(numba_cache.VARIABLE)


def test_nothing_changes_where_the_source_or_the_users_cache_can_be_written(directories):
    numba_cache.choose(directories / "src", numba_cache.Path(NOWHERE))
    assert chosen() is None
    numba_cache.choose(numba_cache.Path(NOWHERE), directories / "cache")
    assert chosen() is None


def test_where_neither_can_be_written_it_is_a_directory_of_this_user_below_tmpdir(directories):
    nowhere = numba_cache.Path(NOWHERE)
    numba_cache.choose(nowhere, nowhere)
    path = directories / "tmp" / f"unirefine-numba-{os.getuid()}"
    assert chosen() == str(path)
    assert path.stat().st_mode & 0o777 == 0o700
    del os.environ[numba_cache.VARIABLE]
    numba_cache.choose(nowhere, nowhere)
    assert chosen() == str(path)


@pytest.mark.parametrize("planted", ["open", "link"])
def test_a_directory_that_others_can_write_is_not_used_because_its_files_are_pickles(directories, planted):
    path = directories / "tmp" / f"unirefine-numba-{os.getuid()}"
    if planted == "open":
        path.mkdir()
        path.chmod(0o777)
    else:
        path.symlink_to(directories / "cache")
    nowhere = numba_cache.Path(NOWHERE)
    numba_cache.choose(nowhere, nowhere)
    assert chosen() not in (None, str(path))
    assert numba_cache.Path(chosen()).stat().st_mode & 0o777 == 0o700


def test_what_the_user_has_set_stays(directories, monkeypatch):
    monkeypatch.setenv(numba_cache.VARIABLE, "/my/cache")
    nowhere = numba_cache.Path(NOWHERE)
    numba_cache.choose(nowhere, nowhere)
    assert chosen() == "/my/cache"
