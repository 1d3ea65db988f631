"""Members that are not in UniProtKB's FASTA: UniParc-only sequences and isoforms, derived from its entries.

Each is its entry without the first residues, like a mature chain or a later start codon. It therefore belongs to the
entry's clusters at every level (UniRef100 includes sub-fragments), never represents one, and changes no number of
entries. The ids have UniParc's and UniProtKB's form but are made up.
"""

from dataclasses import replace

from minisite.proteins import Protein, upi_of
from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import key_of

_SEED = 1
_UNIPARC_ONLY_EVERY, _ISOFORM_EVERY = 25, 5
_LONGEST_LOSS = 10
"""An isoform lacks at most one tenth of its entry, so it still overlaps the seed by 80%."""


def derive(proteins: list[Protein]) -> list[Protein]:
    """One UniParc-only member for about every 25th entry, one isoform for about every tenth reviewed one."""
    known = {protein.sequence for protein in proteins}
    hashes = keyed_hash(_SEED, [key_of(protein.accession) for protein in proteins]).tolist()
    made = []
    for protein, value in zip(proteins, hashes, strict=True):
        if value % _UNIPARC_ONLY_EVERY == 0:
            one = _without_start(protein)
        elif protein.reviewed and value % _ISOFORM_EVERY == 1:
            one = _isoform(protein)
        else:
            continue
        if one is not None and one.sequence not in known:
            known.add(one.sequence)
            made.append(one)
    return made


def _without_start(protein: Protein) -> Protein | None:
    """The chain without its initiator methionine, known to UniParc alone."""
    sequence = protein.sequence.removeprefix("M")
    if sequence == protein.sequence:
        return None
    upi = upi_of(sequence)
    return replace(protein, accession=upi, entry_name=upi, reviewed=False, sequence=sequence)


def _isoform(protein: Protein) -> Protein | None:
    """Isoform 2, from the next methionine on."""
    start = protein.sequence.find("M", 1, len(protein.sequence) // _LONGEST_LOSS)
    if start < 0:
        return None
    name = f"Isoform 2 of {protein.name}"
    return replace(protein, accession=f"{protein.accession}-2", name=name, sequence=protein.sequence[start:])
