"""Before a workflow starts."""

import os
import subprocess

from unirefine.workflow.preflight import require_writable, warning_of_future


def test_directories_that_are_missing_or_writable_pass(tmp_path):
    require_writable(tmp_path, tmp_path / "not yet")


def test_nothing_is_said_of_files_of_the_past_or_of_this_minute(tmp_path):
    (tmp_path / "a").write_text("")
    assert warning_of_future(tmp_path) is None
    assert warning_of_future(tmp_path, now=(tmp_path / "a").stat().st_mtime - 59) is None


def test_the_file_furthest_ahead_is_named_and_the_advice_works(tmp_path):
    (tmp_path / "below").mkdir()
    for name, ahead in [("a", 300), ("below/b", 7200), ("c", 0)]:
        (tmp_path / name).write_text("")
        now = (tmp_path / name).stat().st_mtime
        os.utime(tmp_path / name, (now + ahead, now + ahead))
    line = warning_of_future(tmp_path)
    assert line.startswith(f"{tmp_path}/below/b is dated 2:00:00 ahead") or "1:59:5" in line
    subprocess.run(line.split("then: ")[1].replace("{}", "'{}'"), shell=True, check=True)
    assert warning_of_future(tmp_path) is None


def test_a_missing_directory_has_no_files(tmp_path):
    assert warning_of_future(tmp_path / "none") is None
