"""What a running workflow prints: a line for each finished stage, how far running jobs are, and errors in full.

How far a job is stands in its log, into which its command prints. Everything else is in the logs alone.
"""

import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from unirefine import terminal
from unirefine.progress import PLAIN_INTERVAL_S, duration
from unirefine.workflow.status import stage_of

TICK_S = 1.0
SILENCE_S = PLAIN_INTERVAL_S - TICK_S
"""After so long without a line, the next tick prints one."""
TAIL_BYTES = 1 << 14
ERROR_LINES = 30
WIDTH = 140
"""Characters of a line that is not whole, where nothing says how wide a terminal is."""
_WHOLE = "all"
"""The rule that only asks for everything."""


@dataclass
class _Job:
    rule: str
    logs: Sequence[str]
    began: float


class Console:
    """Prints to `stream` what it is told of a workflow: a bar at the bottom of a terminal, else plain lines."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.RLock()
        self._running: dict[int, _Job] = {}
        self._failed: set[int] = set()
        self._planned: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._began_stage: dict[str, float] = {}
        self._finished = 0
        self._began = self._printed = time.monotonic()
        self._bar: Any = None
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="console", daemon=True)
        self._ticker.start()

    def plan(self, jobs: Mapping[str, int]) -> None:
        """The jobs that will run: how many of each rule."""
        with self._lock:
            for rule, count in jobs.items():
                if rule not in (_WHOLE, "total"):
                    self._planned[stage_of(rule)] += count
            stages = ", ".join(self._planned)
            self.say(f"{_counted(self._planned.total(), 'job')} in {_counted(len(self._planned), 'stage')}: {stages}")
            if self._stream.isatty():
                self._start_bar()

    def started(self, job: int, rule: str, logs: Sequence[str]) -> None:
        """A job has begun, or waits in the queue of a cluster."""
        with self._lock:
            if rule != _WHOLE:
                self._running[job] = _Job(rule, logs, time.monotonic())
                self._began_stage.setdefault(stage_of(rule), time.monotonic())
                self._failed.discard(job)

    def finished(self, job: int) -> None:
        """A job has ended well. With the last one of its stage the stage's line is printed."""
        with self._lock:
            one = self._running.pop(job, None)
            if one is None:
                return
            stage = stage_of(one.rule)
            self._done[stage] += 1
            if self._done[stage] >= self._planned[stage]:
                self._finished += 1
                took = duration(time.monotonic() - self._began_stage[stage])
                place = f"{self._finished:>2}/{len(self._planned)}"
                self.say(f"{place}  {stage:<14} {took:>6}  {said(one)}")
            self._draw()

    def failed(self, job: int, rule: str, logs: Sequence[str]) -> None:
        """A job has ended in an error: prints the last lines of its logs. Once, however often it is told."""
        with self._lock:
            one = self._running.pop(job, None)
            if job in self._failed:
                return
            self._failed.add(job)
            after = f" after {duration(time.monotonic() - one.began)}" if one else ""
            self.say(f"Error in rule {rule}{after}", whole=True)
            for log in logs:
                lines = tail(log)[-ERROR_LINES:]
                self.say(f"  {log}{', last lines:' if lines else ' is empty or not there'}", whole=True)
                for line in lines:
                    self.say(f"    {line}", whole=True)

    def say(self, text: str, *, whole: bool = False) -> None:
        """Print a line, shortened to WIDTH unless `whole`."""
        with self._lock:
            text = terminal.printable(text)
            text = text if whole else shortened(text, self._width())
            if self._bar is not None:
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=self._stream, flush=True)
            self._printed = time.monotonic()

    def close(self) -> None:
        """Stop, with a closing line where jobs have run."""
        self._closed.set()
        self._ticker.join()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
            if self._done:
                self.say(f"{self._done.total()} of {self._planned.total()} jobs done in {self._elapsed()}")

    def _width(self) -> int:
        return shutil.get_terminal_size((WIDTH, 0)).columns if self._stream.isatty() else WIDTH

    def _elapsed(self) -> str:
        return duration(time.monotonic() - self._began)

    def _tick(self) -> None:
        while not self._closed.wait(TICK_S):
            with self._lock:
                self._draw()
                if self._bar is None and time.monotonic() - self._printed >= SILENCE_S:
                    for line in self._states() or [
                        f"{'no job runs' if self._done else 'planning'}, {self._elapsed()} so far"
                    ]:
                        self.say(line)

    def _states(self) -> list[str]:
        """A line for each running job, the one that began first at the top."""
        now = time.monotonic()
        return [
            f"       {one.rule:<22} {duration(now - one.began):>6}  {said(one) or 'starting'}"
            for one in self._running.values()
        ]

    def _start_bar(self) -> None:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        stream = self._stream
        self._bar = Progress(
            BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=Terminal(file=stream.stream if isinstance(stream, terminal.Printable) else stream), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=self._planned.total(), text="")
        self._bar.start()

    def _draw(self) -> None:
        if self._bar is not None:
            states = [" ".join(state.split()) for state in self._states()]
            more = f" (and {len(states) - 1} more)" if len(states) > 1 else ""
            text = shortened(states[0], max(self._width() - 45, 20)) + more if states else ""
            self._bar.update(self._task, completed=self._done.total(), text=text)


def tail(log: Path | str) -> list[str]:
    """The last lines with text of a log, without the times before them; none where it is not there."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(0, Path(log).stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = (terminal.STAMP.sub("", line, count=1).rstrip() for line in text.replace("\r", "\n").split("\n"))
    return [terminal.printable(line) for line in lines if line.strip()]


def said(job: _Job) -> str:
    """The last line of a job, without the name of its stage before it, which stands beside it."""
    return last_line(job.logs).removeprefix(f"{stage_of(job.rule)}: ")


def last_line(logs: Sequence[str]) -> str:
    """The last line with text of the logs of a job; nothing before there is one."""
    return next((lines[-1].strip() for log in reversed(logs) if (lines := tail(log))), "")


def shortened(text: str, width: int) -> str:
    """At most `width` characters of a line, which ends after a whole word and with `...` where something is left out.

    >>> shortened("uniref50: 8,216 of 8,216 entries kept", 26)
    'uniref50: 8,216 of ...'
    """
    if len(text) <= width:
        return text
    kept, space, _word = text[: width - 3].rpartition(" ")
    return f"{kept + space if kept.strip() else text[: width - 3]}..."


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
