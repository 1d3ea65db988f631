"""De-novo designs: sequences that jackhmmer (one iteration) finds from a FASTA of designs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyhmmer

from unirefine.errors import UserError

NO_FILTERS = {"bias_filter": False, "F1": 1.0, "F2": 1.0, "F3": 1.0}
"""What `--max` of HMMER's programs means: every target goes through the full Forward scoring."""
_ALPHABET = pyhmmer.easel.Alphabet.amino()


@dataclass(frozen=True)
class DesignHit:
    """All designs that found one sequence."""

    design: str
    """The design with the smallest E-value."""
    evalue: float
    """Its full-sequence E-value."""
    score: float
    """Its full-sequence bit score."""
    others: int
    """Further designs within the E-value limit."""

    def text(self) -> str:
        """The evidence, as in `jackhmmer hit of 6MRS, E-value 1.2e-30, score 101.2, and of 3 more designs`."""
        more = f", and of {self.others} more design{'s' if self.others > 1 else ''}" if self.others else ""
        return f"jackhmmer hit of {self.design}, E-value {self.evalue:.2g}, score {self.score:.1f}{more}"


def read_designs(path: Path | str) -> list[pyhmmer.easel.DigitalSequence]:
    """The designs of a FASTA. Raises UserError when it is missing, empty or not protein FASTA."""
    try:
        with pyhmmer.easel.SequenceFile(str(path), format="fasta", digital=True, alphabet=_ALPHABET) as file:
            designs = list(file)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError("no such FASTA of designs", where=path, fix="check curate.designs") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"not a protein FASTA ({error})", where=path, fix="check curate.designs") from None
    if not designs:
        raise UserError("no designs in this FASTA", where=path, fix="check curate.designs")
    return designs


def find_designs(
    designs: Sequence[pyhmmer.easel.DigitalSequence],
    sequences: Sequence[str],
    *,
    database_size: int,
    evalue: float,
    threads: int,
) -> dict[int, DesignHit]:
    """Search one block of sequences with jackhmmer, one iteration, `--max`. Returns hits by position in `sequences`.

    E-values are for a database of `database_size` sequences, so that they do not depend on how it is cut into blocks.
    """
    if not sequences:
        return {}
    block = pyhmmer.easel.DigitalSequenceBlock(
        _ALPHABET,
        (
            pyhmmer.easel.TextSequence(name=str(position), sequence=sequence).digitize(_ALPHABET)
            for position, sequence in enumerate(sequences)
        ),
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
