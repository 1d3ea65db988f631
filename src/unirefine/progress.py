"""Progress of long work: a live bar on a terminal, a plain line every ten seconds in a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from unirefine import terminal

PLAIN_INTERVAL_S = 10.0


def human(value: float, unit: str) -> str:
    """`12345678, 'B'` -> `12.3 MB`: decimal prefixes, three significant digits."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5 or prefix == "T":
            digits = (
                0 if prefix == "" and value == int(value) else (2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)
            )
            return f"{value:.{digits}f} {(prefix + unit).lstrip()}"
        value /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """`3725` -> `1h02m`, `75` -> `1m15s`, `3.2` -> `3s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


class Meter:
    """Counts work done. `advance(n)` is cheap enough to call per block, not per record.

    In a log a thread prints the lines, so that one comes also while the work waits for a server or a disk.
    """

    def __init__(self, title: str, total: float | None, unit: str, stream: TextIO, beginning: str = "") -> None:
        self.title, self.total, self.stream, self.beginning = terminal.printable(title), total, stream, beginning
        self.unit = f" {unit}" if unit.islower() else unit  # 12.3 MB, but 12.3 M residues
        self.done = 0.0
        self.started = time.monotonic()
        self._bar: Any = None
        self._closed = threading.Event()
        if stream.isatty():
            from rich.console import Console  # the Snakefile imports this module, and is read without rich
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            # the bar moves the cursor, so it needs the terminal itself
            console = Console(file=stream.stream if isinstance(stream, terminal.Printable) else stream)
            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(),
                TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn(),
                console=console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self.title, total=total, text="")
            self._bar.start()
            terminal.protect()  # while a bar is shown, rich has streams of its own in sys
        else:
            self._printer = threading.Thread(target=self._print_lines, name="progress", daemon=True)
            self._printer.start()

    def advance(self, amount: float) -> None:
        """Add `amount` units of finished work."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=self._text(time.monotonic()))

    def _print_lines(self) -> None:
        while not self._closed.wait(PLAIN_INTERVAL_S):
            print(f"{self.title}: {self._text(time.monotonic())}", file=self.stream, flush=True)

    def _text(self, now: float) -> str:
        rate = self.done / max(now - self.started, 1e-9)
        if not self.done:
            text = f"nothing yet of {human(self.total, self.unit)}" if self.total else "nothing yet"
            text += f" after {duration(now - self.started)}"
            return f"{text}; {self.beginning}" if self.beginning else text
        text = human(self.done, "" if self.total and self.unit.startswith(" ") else self.unit).strip()
        if self.total:
            text += f" of {human(self.total, self.unit)} ({100 * self.done / self.total:.0f}%)"
        text += f", {human(rate, self.unit)}/s"
        if self.total and rate > 0:
            text += f", ETA {duration(max(self.total - self.done, 0) / rate)}"
        return text

    def close(self) -> None:
        """Stop the bar and print one closing line with the total and the mean rate."""
        if self._bar is not None:
            self._bar.stop()
        else:
            self._closed.set()
            self._printer.join()
        elapsed = time.monotonic() - self.started
        rate = human(self.done / max(elapsed, 1e-9), self.unit)
        print(
            f"{self.title}: {human(self.done, self.unit)} in {duration(elapsed)} ({rate}/s)",
            file=self.stream,
            flush=True,
        )


@contextlib.contextmanager
def meter(
    title: str, *, total: float | None = None, unit: str = "", stream: TextIO | None = None, beginning: str = ""
) -> Iterator[Meter]:
    """Show progress of a block of work on stderr. beginning: what may take long before anything is done.

    >>> with meter("records", total=size, unit="B") as done:
    ...     done.advance(4096)
    """
    shown = Meter(title, total, unit, stream or sys.stderr, beginning)
    try:
        yield shown
    finally:
        shown.close()


@contextlib.contextmanager
def waiting(title: str, *, stream: TextIO | None = None) -> Iterator[None]:
    """Print every ten seconds how long a block of work has taken: for work of which nothing else is known."""
    ended, began = threading.Event(), time.monotonic()

    def print_lines() -> None:
        while not ended.wait(PLAIN_INTERVAL_S):
            print(f"{title}: {duration(time.monotonic() - began)} so far", file=stream or sys.stderr, flush=True)

    printer = threading.Thread(target=print_lines, name="waiting", daemon=True)
    printer.start()
    try:
        yield
    finally:
        ended.set()
        printer.join()
