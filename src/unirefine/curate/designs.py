"""De-novo designs: find sequences that resemble a FASTA of designs, by one iteration of jackhmmer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyhmmer

from unirefine.core.fasta import read_fasta
from unirefine.errors import UserError

NO_FILTERS = {"bias_filter": False, "F1": 1.0, "F2": 1.0, "F3": 1.0}
"""The `--max` of HMMER's programs: every target is scored by the full Forward algorithm."""
_ALPHABET = pyhmmer.easel.Alphabet.amino()


@dataclass(frozen=True)
class DesignHit:
    """The designs that found one sequence."""

    design: str
    """The design with the smallest E-value."""
    evalue: float
    """Its full-sequence E-value."""
    score: float
    """Its full-sequence bit score."""
    others: int
    """Further designs within the E-value limit."""

    def text(self) -> str:
        """The evidence: `jackhmmer hit of 6MRS, E-value 1.2e-30, score 101.2, and of 3 more designs`."""
        more = f", and of {self.others} more design{'s' if self.others > 1 else ''}" if self.others else ""
        return f"jackhmmer hit of {self.design}, E-value {self.evalue:.2g}, score {self.score:.1f}{more}"


def read_designs(path: Path | str) -> list[pyhmmer.easel.DigitalSequence]:
    """Read the designs of a FASTA. Raises UserError when it is missing, empty or not a protein FASTA."""
    try:
        return [_digital(design.name, design.sequence) for design in read_fasta(path)]
    except UserError as error:
        raise UserError(error.what, where=error.where, fix="check curate.designs") from None


def _digital(name: str, sequence: str) -> pyhmmer.easel.DigitalSequence:
    return pyhmmer.easel.TextSequence(name=name, sequence=sequence).digitize(_ALPHABET)


def find_designs(
    designs: Sequence[pyhmmer.easel.DigitalSequence],
    sequences: Sequence[str],
    *,
    database_size: int,
    evalue: float,
    threads: int,
) -> dict[int, DesignHit]:
    """Search one block of sequences with one iteration of jackhmmer and `--max`: hits by position in `sequences`.

    E-values are for a database of `database_size` sequences, so they do not depend on its division into blocks.
    """
    if not sequences:
        return {}
    block = pyhmmer.easel.DigitalSequenceBlock(
        _ALPHABET,
        (_digital(str(position), sequence) for position, sequence in enumerate(sequences)),
    )
    found: dict[int, list[tuple[float, str, float]]] = {}
    for design, result in zip(
        designs,
        pyhmmer.hmmer.jackhmmer(
            designs, block, max_iterations=1, cpus=threads, Z=database_size, E=evalue, **NO_FILTERS
        ),
        strict=True,
    ):
        for hit in result.hits.reported:
            found.setdefault(int(hit.name), []).append((hit.evalue, _text(design.name), hit.score))
    hits = {}
    for position, ranked in found.items():
        best, *others = sorted(ranked)
        hits[position] = DesignHit(best[1], best[0], best[2], len(others))
    return hits


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
