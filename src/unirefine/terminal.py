"""What reaches a terminal or a log is text: control characters from files, names and servers are shown, not obeyed."""

import io
import os
import re
import sys
import time
from typing import Any, TextIO

LOG_TIMES = "UNIREFINE_LOG_TIMES"
"""Environment variable: with 1, every line that is not printed on a terminal begins with the date and the time."""
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")
"""How such a line begins."""
_KEPT = re.compile(r"[\n\t]")


def printable(text: str) -> str:
    r"""The text with every character that a terminal may act on as a backslash escape; line ends and tabs stay.

    That is escape sequences, other control characters, marks that turn the direction of writing, and bytes of a file
    name that are not UTF-8.

    >>> printable("P12345\x1b[2K\rgone")
    'P12345\\x1b[2K\\rgone'
    """
    if _KEPT.sub("", text).isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else _escaped(one) for one in text)


def brief(text: str, length: int = 80) -> str:
    """At most `length` characters of a text from outside, for a message."""
    return text if len(text) <= length else f"{text[:length]}..."


def protect() -> None:
    """From now on everything that is printed to stdout and stderr passes `printable`, tracebacks and argparse too."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Printable):  # None: the caller has closed it
            setattr(sys, name, Printable(stream))


class Printable(io.TextIOBase):
    """A text stream that writes to another what `printable` leaves."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        """Where it goes: for a program that draws on the terminal itself."""
        self._stamped = os.environ.get(LOG_TIMES) == "1" and not stream.isatty()
        self._begins_line = True

    def write(self, text: str) -> int:
        """Write the text. Returns its length, as given."""
        self.stream.write(self._with_times(printable(text)) if self._stamped else printable(text))
        return len(text)

    def _with_times(self, text: str) -> str:
        if not text:
            return text
        stamp = time.strftime("%Y-%m-%d %H:%M:%S  ")
        begins, self._begins_line = self._begins_line, text.endswith("\n")
        body = text[:-1].replace("\n", f"\n{stamp}") + text[-1]
        return (stamp if begins else "") + body

    def flush(self) -> None:
        """Flush the stream below."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Whether the stream below is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Of the stream below."""
        return self.stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    @property
    def closed(self) -> bool:
        """Whether the stream below is closed, also by somebody else."""
        return self.stream.closed

    @property
    def encoding(self) -> str:
        """Of the stream below."""
        return self.stream.encoding

    def __getattr__(self, name: str) -> Any:
        """What only files have (`buffer`, `name`): that of the stream below."""
        return getattr(self.stream, name)


def _escaped(one: str) -> str:
    byte = ord(one) - 0xDC00
    if 0x80 <= byte <= 0xFF:  # how Python keeps a byte of a file name that is not UTF-8
        return f"\\x{byte:02x}"
    return one.encode("unicode_escape").decode("ascii")
