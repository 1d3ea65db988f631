"""The proteins of a miniature site: UniProtKB entries with their organism, and the clusters they form."""

import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minisite.taxonomy import ARTIFICIAL, Taxonomy
from unirefine.core import levels
from unirefine.core.crc64 import crc64_hex
from unirefine.core.fasta import read_entries
from unirefine.core.hashing import keyed_hash
from unirefine.core.ids import key_of
from unirefine.errors import UserError

_HEADER = re.compile(
    r"(sp|tr)\|([^|\s]+)\|(\S+) (.*) OS=(.*?)(?: OX=\d+)?(?: GN=\S.*?)? PE=\d(?: SV=\d+)?"  # a name may contain ` OS=`
)
LEVELS = (*levels.LEVELS, "uniref100")


@dataclass(frozen=True, slots=True)
class Protein:
    """One UniProtKB entry, an isoform of one, or a sequence that only UniParc has."""

    accession: str
    """`P10636`, `P10636-2`, or the UPI of a UniParc-only sequence."""
    entry_name: str
    name: str
    reviewed: bool
    organism: str
    tax_id: int | None
    """NCBI taxon; None where NCBI does not use UniProt's name of the organism."""
    ancestor: int | None
    """The taxon, or the species above it; None where neither is known."""
    sequence: str
    uniref100: str
    """Accession of the representative of its UniRef100 cluster; `uniref90` and `uniref50` likewise."""
    uniref90: str
    uniref50: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """One UniRef entry: its representative first, its seed the longest member."""

    representative: Protein
    members: tuple[Protein, ...]
    """All members, the representative first, then by entry name."""
    seed: str
    """Accession of the longest member."""
    common_taxon: str
    common_taxon_id: int | None


def upi_of(sequence: str) -> str:
    """An id of UniParc's form for a sequence: its CRC64's first ten digits."""
    return f"UPI{crc64_hex(sequence)[:10]}"


def read_proteins(fasta: Iterable[Path], clusters: Path, organisms: Path) -> list[Protein]:
    """Read UniProtKB FASTA files (plain or xz), the cluster table and the organism table.

    clusters: columns accession, uniref90, uniref50 (accessions of the representatives); organisms: columns
    organism, tax_id, ancestor. Raises UserError for a header that is not UniProtKB's or an entry without clusters.
    """
    clusters_of = {row[0]: row[1:] for row in read_table(clusters, 3)}
    taxa = {row[0]: row[1:] for row in read_table(organisms, 3)}
    entries = [(path, entry.header, entry.sequence) for path in fasta for entry in read_entries(path)]
    found, identical = [], {}
    for where, header, sequence in entries:
        match = _HEADER.fullmatch(header)
        if match is None:
            raise UserError(
                f"not a UniProtKB header: {header[:80]!r}", where=where, fix="expected `sp|ACC|NAME text OS=...`"
            )
        if match[2] not in clusters_of:
            raise UserError(f"{match[2]} is not in {clusters}", where=where, fix="cluster the same sequences again")
        found.append((match, sequence))
        rank = (match[1] != "sp", match[2])
        identical[sequence] = min(identical.get(sequence, rank), rank)
    return [_protein(match, sequence, identical[sequence][1], clusters_of, taxa) for match, sequence in found]


def _protein(match: re.Match, sequence: str, uniref100: str, clusters_of: dict, taxa: dict) -> Protein:
    database, accession, entry_name, name, organism = match.groups()
    tax_id, ancestor = taxa.get(organism, ("", ""))
    return Protein(
        accession, entry_name, name, database == "sp", organism,
        int(tax_id) if tax_id else None, int(ancestor) if ancestor else None,
        sequence, uniref100, *clusters_of[accession],
    )  # fmt: skip


def choose(proteins: list[Protein], taxonomy: Taxonomy, limit: int | None) -> list[Protein]:
    """The proteins of `limit` UniRef50 clusters: those with an artificial sequence first, then in keyed-hash order."""
    if limit is None:
        return proteins
    artificial = {p.uniref50 for p in proteins if p.tax_id is not None and ARTIFICIAL in taxonomy.lineage(p.tax_id)}
    names = sorted({p.uniref50 for p in proteins})
    hashes = dict(zip(names, keyed_hash(0, [key_of(name) for name in names]).tolist(), strict=True))
    kept = set(sorted(names, key=lambda name: (name not in artificial, hashes[name]))[:limit])
    return [protein for protein in proteins if protein.uniref50 in kept]


def form_clusters(proteins: list[Protein], level: str, taxonomy: Taxonomy) -> list[Cluster]:
    """The clusters of a level (`uniref50`, `uniref90`, `uniref100`) as UniProt orders them: longest first."""
    groups: dict[str, list[Protein]] = {}
    for protein in proteins:
        groups.setdefault(getattr(protein, level), []).append(protein)
    clusters = [_cluster(name, members, taxonomy) for name, members in groups.items()]
    return sorted(clusters, key=lambda c: (-len(c.representative.sequence), c.representative.accession))


def _cluster(name: str, members: list[Protein], taxonomy: Taxonomy) -> Cluster:
    members = sorted(members, key=lambda p: (p.accession != name, p.entry_name))
    assert members[0].accession == name, f"representative {name} is not a member of its own cluster"
    seed = min(members, key=lambda p: (-len(p.sequence), p.accession))
    return Cluster(members[0], tuple(members), seed.accession, *_common_taxon(members, taxonomy))


def _common_taxon(members: list[Protein], taxonomy: Taxonomy) -> tuple[str, int | None]:
    """Name and id of the lowest common ancestor; without an id if the taxon of any member is unknown."""
    organisms = {(p.organism, p.tax_id) for p in members}
    if len(organisms) == 1:
        return organisms.pop()
    known = {p.ancestor for p in members if p.ancestor is not None}
    if not known:
        return members[0].organism, None
    common = taxonomy.common_ancestor(known)
    return taxonomy.names[common], common if all(p.ancestor is not None for p in members) else None


def read_table(path: Path, columns: int) -> Iterator[list[str]]:
    """Rows of a tab-separated table (plain or xz), its heading skipped. Raises UserError for a torn row."""
    with _open(path) as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            row = line.rstrip("\n").split("\t")
            if len(row) != columns:
                raise UserError(f"line {number} has {len(row)} columns, not {columns}", where=path)
            yield row


def _open(path: Path):
    if not path.exists():
        raise UserError("no such file", where=path, fix="resources/demo holds the demo's files")
    return lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8")
