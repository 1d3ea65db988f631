"""Mutations as text: substitutions, deletions, insertions and stop codons of one wild type."""

import re
from typing import NamedTuple

from unirefine.core.alphabet import AMINO_ACIDS, TOKENS
from unirefine.errors import UserError

WILD_TYPE = ("wt", "_wt", "wildtype", "wild_type", "wild type", "=")
"""What stands for the unchanged protein, in any case."""
LETTERS = frozenset(token for token in TOKENS if len(token) == 1 and token.isalpha())
"""Letters that ESM-2 has a token for."""
RARE = LETTERS - set(AMINO_ACIDS)
"""X, B, U, Z, O: tokens that ESM-2 has hardly seen in training."""
_SUBSTITUTION = re.compile(r"([A-Z])([0-9]{1,9})([A-Z])")
_DELETION = re.compile(r"([A-Z])([0-9]{1,9})(?:_([A-Z])([0-9]{1,9}))?(?:del|-)")
_INSERTION = re.compile(r"([A-Z])([0-9]{1,9})_([A-Z])([0-9]{1,9})ins([A-Z]+)")
_STOP = re.compile(r"([A-Z])([0-9]{1,9})\*")
_EXAMPLES = "A42G (substitution), A42del, A42_C50del, A42_K43insGG, A42* (stop) or WT"


class Substitution(NamedTuple):
    """One changed residue."""

    position: int
    """0-based."""
    wild_type: str
    mutant: str


class Edited(NamedTuple):
    """A protein after its mutations."""

    sequence: str
    """In upper case; up to a stop codon."""
    changes: tuple[Substitution, ...] | None
    """The substitutions, when there is nothing else."""


def parse_mutant(text: str, wild_type: str, *, offset: int = 0, where: object = None) -> Edited:
    """A protein with the mutations of `text`, joined by `:`, as in `A42G:C50D`.

    offset: number of the first residue, minus 1. Raises UserError unless each mutation names the wild type's residues,
    no position is changed twice, and ESM-2 has a token for every letter.
    """
    wild = wild_type.upper()
    if text.strip().casefold() in WILD_TYPE:
        return Edited(wild, ())
    residues: list[str] = list(wild)
    changes: list[Substitution] = []
    end, only_substitutions = len(wild), True
    touched: set[int | tuple[int, int]] = set()

    def place(letter: str, number: str, change: str) -> int:
        position = int(number) - 1 - offset
        if not 0 <= position < len(wild):
            raise UserError(f"{change}: the protein has {len(wild)} residues", where=where, fix="check --offset")
        if wild[position] != letter:
            raise UserError(
                f"{change}: residue {number} is {wild[position]}, not {letter}", where=where, fix="check --offset"
            )
        return position

    def touch(*places: int | tuple[int, int]) -> None:
        for one in places:
            if one in touched:
                number = (one if isinstance(one, int) else one[0]) + 1 + offset
                raise UserError(f"position {number} is changed twice", where=where, fix="write each change once")
            touched.add(one)

    for change in text.strip().split(":"):
        if match := _SUBSTITUTION.fullmatch(change):
            position = place(match[1], match[2], change)
            touch(position)
            residues[position] = match[3]
            changes.append(Substitution(position, match[1], match[3]))
            check_letters(match[1] + match[3], change, where)
            continue
        only_substitutions = False
        if match := _DELETION.fullmatch(change):
            first = place(match[1], match[2], change)
            last = place(match[3], match[4], change) if match[3] else first
            if last < first:
                raise UserError(f"{change}: ends before it starts", where=where)
            touch(*range(first, last + 1))
            residues[first : last + 1] = [""] * (last + 1 - first)
        elif match := _INSERTION.fullmatch(change):
            first, last = place(match[1], match[2], change), place(match[3], match[4], change)
            if last != first + 1:
                raise UserError(f"{change}: an insertion is between neighbours", where=where)
            touch((first, last))
            check_letters(match[5], change, where)
            residues[last] = match[5] + residues[last]
        elif match := _STOP.fullmatch(change):
            end = place(match[1], match[2], change)
            touch(end)
        else:
            raise UserError(f"{change!r} is not {_EXAMPLES}", where=where)
    sequence = "".join(residues[:end])
    if not sequence:
        raise UserError(f"{text.strip()}: leaves no residue", where=where)
    return Edited(sequence, tuple(changes) if only_substitutions else None)


def between(wild_type: str, sequence: str, name: str, *, where: object = None) -> Edited:
    """A protein that is given as a whole. Its part after a stop codon (`*`) is dropped. Raises UserError."""
    wild, mutated = wild_type.upper(), sequence.upper().split("*")[0]
    check_letters(mutated, name, where)
    if not mutated:
        raise UserError(f"{name} has no residues", where=where)
    if len(wild) != len(mutated):
        return Edited(mutated, None)
    pairs = enumerate(zip(wild, mutated, strict=True))
    changes = tuple(Substitution(i, before, after) for i, (before, after) in pairs if before != after)
    check_letters("".join(change.wild_type for change in changes), name, where)
    return Edited(mutated, changes)


def check_letters(letters: str, what: str, where: object) -> None:
    """Raises UserError when ESM-2 has no token for one of them."""
    for letter in letters:
        if letter not in LETTERS:
            raise UserError(
                f"{what}: ESM-2 has no token for {letter!r}", where=where, fix="correct it, or add --unscored skip"
            )
