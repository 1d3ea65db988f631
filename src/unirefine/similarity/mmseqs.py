"""MMseqs2's modules in one directory of databases, with lines on stderr that say what runs and how far it is."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl

from unirefine.progress import Meter, meter, waiting
from unirefine.tools import run_tool

_BAR = 65
"""MMseqs2's progress bar has so many `=`."""
_STEP = re.compile(rb"Starting prefiltering scores calculation \(step (\d+) of (\d+)\)")

_END = 2
"""Bytes after a sequence: a line feed and a zero."""

Options = Mapping[str, object]
_NONE: Options = MappingProxyType({})


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
        argv = [self.binary, "createdb", fasta, self.directory / name, "--dbtype", 1, "--shuffle", 0, "-v", 1]
        with waiting(f"{self.title}: createdb"):
            run_tool(argv, directory=self.directory)
        return _lines(self.directory / f"{name}.index")

    def subset(self, name: str, subset: str, keys: np.ndarray) -> None:
        """Make a database of some sequences of another, with the same keys. keys: int [k]."""
        chosen = self.directory / f"{subset}.keys"
        np.savetxt(chosen, keys, fmt="%d")
        self.delete(f"{subset}.index")
        self.run("createsubdb", chosen.name, name, subset, options={"--subdb-mode": 1}, threaded=False)

    def run(
        self, module: str, *names: str, options: Options = _NONE, total: int | None = None, threaded: bool = True
    ) -> None:
        """Run a module on files of the directory. total: show progress, of so many sequences.

        Raises UserError when it fails.
        """
        words = [word for option in options.items() for word in option]
        argv = [self.binary, module, *(self.directory / name for name in names), *words]
        argv += ["--threads", self.threads] if threaded else []
        if total is None:
            with waiting(f"{self.title}: {module}"):
                run_tool([*argv, "-v", 1], directory=self.directory)
            return
        with meter(f"{self.title}: {module}", total=total, unit="sequences") as progress:
            run_tool([*argv, "-v", 3], directory=self.directory, follow=_follower(progress, total))
            progress.advance(total - progress.done)

    def lengths(self, name: str) -> np.ndarray:
        """Residues of each sequence of a database in the order of its keys, from 0: int64 [n]."""
        columns = {"key": pl.Int64, "offset": pl.Int64, "bytes": pl.Int64}
        path = self.directory / f"{name}.index"
        index = pl.read_csv(path, separator="\t", has_header=False, schema=columns, glob=False)
        return index.sort("key")["bytes"].to_numpy() - _END

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
        progress.advance(max(0, int(_share(output) * total) - progress.done))

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
