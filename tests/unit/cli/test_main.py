import errno
import os
import subprocess
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
            MemoryError("Unable to allocate 3 TiB"),
            "unirefine split: error: out of memory (Unable to allocate 3 TiB); give",
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


def with_option(monkeypatch, error):
    """A stage with the option --input that raises `error`."""
    stage_that(monkeypatch, raising(error))
    module = sys.modules["unirefine.cli.split"]
    plain = module.parser

    def parser():
        built = plain()
        built.add_argument("--input")
        return built

    module.parser = parser


def test_a_missing_file_is_one_line_where_the_user_named_it_or_its_directory(monkeypatch, capsys):
    with_option(monkeypatch, FileNotFoundError(errno.ENOENT, "x", "data/./a.bin"))
    assert cli.main(["split", "--input", "data"]) == 1
    assert "data/./a.bin: no such file or directory; run the stage that writes it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.bin", "database/a.bin", None])
@pytest.mark.parametrize("kind", [FileNotFoundError, PermissionError, IsADirectoryError])
def test_a_path_that_the_user_has_not_named_is_a_bug(monkeypatch, name, kind):
    number = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, IsADirectoryError: errno.EISDIR}[kind]
    with_option(monkeypatch, kind(number, "x", name))
    with pytest.raises(kind):
        cli.main(["split", "--input", "data"])


@pytest.mark.parametrize("switch", ["--traceback", "UNIREFINE_TRACEBACK"])
def test_the_traceback_of_a_fault_is_shown_when_asked_for(monkeypatch, capsys, switch):
    def action(_arguments):
        try:
            int("x")
        except ValueError:
            raise UserError("no number") from None

    stage_that(monkeypatch, action)
    words = ["split"]
    if switch.startswith("--"):
        words.append(switch)
    else:
        monkeypatch.setenv(switch, "1")
    assert cli.main(words) == 1
    shown = capsys.readouterr().err
    assert "ValueError: invalid literal" in shown and "in action" in shown
    assert shown.splitlines()[-1] == "unirefine split: error: no number"


def test_a_reader_that_has_ended_is_status_141_without_a_word(monkeypatch, capsys):
    stage_that(monkeypatch, lambda _arguments: print("text" * 100_000))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["split"]) == 141
    assert capsys.readouterr().err == ""


def test_a_broken_pipe_elsewhere_is_a_bug(monkeypatch):
    stage_that(monkeypatch, raising(BrokenPipeError(errno.EPIPE, "x")))
    with pytest.raises(BrokenPipeError):
        cli.main(["split"])


def test_output_on_a_full_disk_is_one_line(monkeypatch, capsys):
    stage_that(monkeypatch, lambda _arguments: print("text"))
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["split"]) == 1
    assert capsys.readouterr().err.startswith("unirefine split: error: standard output: no space left on device")


def test_a_real_pipe_ends_quietly():
    """`unirefine --help | true`, and what Python does when it ends."""
    command = f"{sys.executable} -m unirefine.cli.main --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")


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
