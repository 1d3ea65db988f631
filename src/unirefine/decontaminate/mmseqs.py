"""MMseqs2's modules in one directory of databases, with lines on stderr that say what runs and how far it is."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unirefine.progress import Meter, meter
from unirefine.tools import run_tool

_BAR = 65
"""MMseqs2's progress bar has so many `=`."""
_STEP = re.compile(rb"Starting prefiltering scores calculation \(step (\d+) of (\d+)\)")

Options = Mapping[str, object]


@dataclass(frozen=True)
class Workspace:
    """A directory of MMseqs2 databases, and how to run modules on them."""

    binary: Path | str
    directory: Path
    threads: int
    title: str
    """Begins every line on stderr."""

    def createdb(self, name: str, fasta: Path) -> int:
        """Make a database of the amino acid sequences of a FASTA file; return their number."""
        # --dbtype 1: amino acids; MMseqs2 would guess nucleotides from letters like ACGT
        run_tool([self.binary, "createdb", fasta, self.directory / name, "--dbtype", 1, "--shuffle", 0, "-v", 1])
        return _lines(self.directory / f"{name}.index")

    def run(self, module: str, *names: str, options: Options, total: int | None = None) -> None:
        """Run a module on files of the directory. total: show progress, of so many sequences.

        Raises UserError when it fails.
        """
        words = [word for option in options.items() for word in option]
        argv = [self.binary, module, *(self.directory / name for name in names), *words, "--threads", self.threads]
        if total is None:
            run_tool([*argv, "-v", 1])
            return
        with meter(f"{self.title}: {module}", total=total, unit="sequences") as progress:
            run_tool([*argv, "-v", 3], follow=_follower(progress, total))
            progress.advance(total - progress.done)

    def entries(self, name: str) -> int:
        """Number of lines of all entries of a result database, which may be in several files."""
        files = [self.directory / name, *self.directory.glob(f"{name}.[0-9]*")]
        return sum(_lines(path) for path in files if path.exists())

    def say(self, line: str) -> None:
        """Print a line on stderr."""
        print(f"{self.title}: {line}", file=sys.stderr, flush=True)

    def delete(self, name: str) -> None:
        """Delete a database."""
        for path in self.directory.glob(f"{name}*"):
            path.unlink()


def _follower(progress: Meter, total: int) -> Callable[[bytes], None]:
    def follow(output: bytes) -> None:
        progress.advance(max(0.0, _share(output) * total - progress.done))

    return follow


def _share(output: bytes) -> float:
    """How much of its work a module has done, from 0 to 1, by what it has printed with `-v 3`."""
    step, steps, bar = 1, 1, b"" if b"Index table" in output else output
    for found in _STEP.finditer(output):
        step, steps, bar = int(found[1]), int(found[2]), output[found.end() :]
    return (step - 1 + min(bar.count(b"=") / _BAR, 1)) / steps


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 24), b""))
