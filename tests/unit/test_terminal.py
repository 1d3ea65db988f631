"""No text from outside moves a cursor, colours a line, sets a title or hides what stands before it."""

import io
import sys
import traceback

import pytest

from unirefine import progress, terminal
from unirefine.cli.main import main
from unirefine.errors import UserError

HOSTILE = "P1\x1b[2K\x1b]0;title\x07\r\x9b31m\u202egnp\u200b\x00\x08\x7f\u2028"
SHOWN = r"P1\x1b[2K\x1b]0;title\x07\r\x9b31m\u202egnp\u200b\x00\x08\x7f\u2028"


def test_what_is_shown():
    assert terminal.printable(HOSTILE) == SHOWN
    assert terminal.printable("a\tb\nAlanine é 漢\n") == "a\tb\nAlanine é 漢\n"
    assert terminal.printable(b"a\xff\n".decode("utf-8", "surrogateescape")) == "a\\xff\n"
    assert terminal.brief("x" * 100, 5) == "xxxxx..." and terminal.brief("x") == "x"


def test_messages_of_users_mistakes():
    assert UserError(HOSTILE, where=HOSTILE, fix="mend\nit").line() == f"{SHOWN}: {SHOWN}; mend it".replace(
        r"\r", " "
    ).replace(r"\u2028", " ")


def clean(text):
    return text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "words",
    [
        ["split", "--config", HOSTILE],
        ["split", "--set", HOSTILE],
        ["split", f"--{HOSTILE}"],
        [HOSTILE],
        ["trace", HOSTILE, "--results", "nowhere"],
        ["records", "--level", HOSTILE, "--input", "x", "--output", "y"],
        ["shard", "cat", HOSTILE, "--shards", "nowhere"],
        ["lineage", HOSTILE],
        ["status", "--config", HOSTILE],
        ["release", "fetch", "--file", HOSTILE, "--output", "nowhere/x"],
    ],
)
def test_arguments_are_shown_not_obeyed(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        assert main([word.replace("\0", "") for word in words]) == 1
    except SystemExit as usage:
        assert usage.code == 2
    out, err = capsys.readouterr()
    assert clean(out) and clean(err) and err


def test_everything_printed_is_shown_not_obeyed(capsys, monkeypatch):
    terminal.protect()
    protected = sys.stdout
    terminal.protect()
    assert sys.stdout is protected, "once is enough"
    print(HOSTILE, end="")
    print(HOSTILE, file=sys.stderr)
    traceback.print_exception(ValueError(HOSTILE))
    out, err = capsys.readouterr()
    assert out == SHOWN and clean(err) and err.count(SHOWN) == 2
    assert sys.stdout.encoding.lower() == "utf-8" and sys.stdout.isatty() is False
    monkeypatch.setattr(sys, "stdout", None)  # a caller that has closed it
    terminal.protect()
    assert sys.stdout is None


def test_a_stream_whose_file_is_closed_says_so():
    """Other libraries ask before they write at the exit of the process."""
    stream = io.StringIO()
    protected = terminal.Printable(stream)
    assert not protected.closed
    stream.close()
    assert protected.closed


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("shown", ["terminal", "log"])
def test_titles_of_progress(shown, monkeypatch):
    """The bar moves the cursor, its title does not; a title is no markup either."""
    stream = Terminal() if shown == "terminal" else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal.Printable(stream))
    with progress.meter(f"[red]{HOSTILE}", total=10, unit="B") as done:
        done.advance(5)
        print(HOSTILE, file=sys.stderr)
    written = stream.getvalue()
    assert "\x07" not in written and "\x9b" not in written and "\u202e" not in written and "]0;title\x07" not in written
    assert written.endswith(f"[red]{SHOWN}: 5 B in 0s ({written.rpartition('(')[2]}")
    assert (SHOWN in written) and (shown == "log") == clean(written)
