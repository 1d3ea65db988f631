import errno
import sys
import types

import pytest

from unirefine.cli import main as cli
from unirefine.cli.common import stage_parser
from unirefine.errors import UserError


def stage_that(monkeypatch, action):
    module = types.ModuleType("unirefine.cli.split")

    def parser():
        built = stage_parser("split", "text", "unirefine split")
        built.set_defaults(run=action)
        return built

    module.parser = parser
    monkeypatch.setitem(sys.modules, "unirefine.cli.split", module)


def raising(error):
    def action(_arguments):
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("bad\nline", where="f.txt", fix="mend it"), "unirefine split: error: f.txt: bad line; mend it"),
        (
            OSError(errno.ENOSPC, "x", "a.bin"),
            "unirefine split: error: a.bin: no space left on device; free some space",
        ),
        (
            OSError(errno.EROFS, "x", "a.bin"),
            "unirefine split: error: a.bin: read-only file system; mount it for writing",
        ),
        (
            FileNotFoundError(errno.ENOENT, "x", "a.bin"),
            "unirefine split: error: a.bin: no such file or directory; run",
        ),
    ],
)
def test_an_outside_fault_is_one_line_and_status_1(monkeypatch, capsys, error, line):
    stage_that(monkeypatch, raising(error))
    assert cli.main(["split"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    stage_that(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["split"])


def test_ctrl_c_is_status_130(monkeypatch, capsys):
    stage_that(monkeypatch, raising(KeyboardInterrupt()))
    assert cli.main(["split"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("stage", cli.STAGES)
def test_every_stage_has_help_with_an_example(stage, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([stage, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "example" in out
    assert f"unirefine {stage}" in out.split("example")[1]


@pytest.mark.parametrize(
    "words", [["records"], ["curate"], ["cluster"], ["shard", "build"], ["decontaminate", "search"]]
)
@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_no_threads_are_refused(words, threads, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--threads", threads])
    assert caught.value.code == 2
    assert f"argument --threads: {threads!r} is not a whole number of at least 1" in capsys.readouterr().err


def test_an_argument_that_is_not_utf8_is_one_line(tmp_path, capsys):
    for argument in (str(tmp_path / "x\udcff.fasta"), "\udcff"):
        command = ["records", "--level", "uniref90", "--input", argument, "--output", str(tmp_path / "out")]
        assert cli.main(command) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "\\udcff" in error and "is not UTF-8; rename that file" in error
    assert not (tmp_path / "out").exists()
