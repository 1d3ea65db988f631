"""How much memory MMseqs2's prefilter takes, by its own estimate."""

KMER = 6
"""Length of k-mers. By itself MMseqs2 takes 7 for an index of more than 3.35 billion residues, so that hits would
depend on the number of parts."""
_LETTERS = 20
_SCORES = 8 * _LETTERS**6 + 8 * _LETTERS**4
"""Similar k-mers of all 3-mers and 2-mers, 8 bytes each."""
_TABLE = 8 * _LETTERS**KMER
"""An offset for every k-mer."""
_RESIDUE = 7
_SEQUENCE = 22 + 28
_SEQUENCE_AND_THREAD = 2 * 6 + 1.5 * 7 + 4 * 7 + 12
"""k-mer matches, diagonals found, bins of diagonals, list of results."""


def prefilter_bytes(sequences: int, residues: int, threads: int) -> int:
    """Bytes of memory for an index of so many sequences with so many residues in all, and for searching it.

    It is what MMseqs2 prints as "Estimated memory consumption" where the number of results is not limited.
    """
    return round(_SCORES + _TABLE + _RESIDUE * residues + sequences * (_SEQUENCE + threads * _SEQUENCE_AND_THREAD))
