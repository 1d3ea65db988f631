"""UniProt's file formats, as its release files have them: UniRef FASTA and XML, release note, metalink, id mapping."""

import datetime
import hashlib
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from minisite.proteins import LEVELS, Cluster, Protein, upi_of
from unirefine.core.crc64 import crc64_hex

MIRRORS = (
    ("ch", "ftp://ftp.expasy.org/databases/uniprot"),
    ("uk", "ftp://ftp.ebi.ac.uk/pub/databases/uniprot"),
    ("us", "ftp://ftp.uniprot.org/pub/databases/uniprot"),
)
LABELS = {"uniref50": "UniRef50", "uniref90": "UniRef90", "uniref100": "UniRef100"}
_QUOTES = {'"': "&quot;", "'": "&apos;"}
_GO_TERMS = (
    ("kinase", "GO Molecular Function", "GO:0016301"),
    ("transport", "GO Biological Process", "GO:0006810"),
    ("membrane", "GO Cellular Component", "GO:0016020"),
)
"""(word in a cluster's name, kind of the GO term, the term)."""
_LINE = 60
IDMAPPING_COLUMNS = 22


def fasta(clusters: list[Cluster], level: str) -> str:
    """`>UniRef50_ACC name n=3 Tax=... TaxID=... RepID=ENTRY_NAME` and lines of 60; no TaxID where it is unknown."""
    lines = []
    for cluster in clusters:
        best = cluster.representative
        taxon = f"Tax={cluster.common_taxon}"
        if cluster.common_taxon_id is not None:
            taxon += f" TaxID={cluster.common_taxon_id}"
        lines.append(
            f">{LABELS[level]}_{best.accession} {best.name} n={len(cluster.members)} {taxon} RepID={best.entry_name}\n"
        )
        lines += [f"{best.sequence[i : i + _LINE]}\n" for i in range(0, len(best.sequence), _LINE)]
    return "".join(lines)


def xml(clusters: list[Cluster], level: str, release: str, date: datetime.date) -> bytes:
    """The level as UniRef XML, ISO-8859-1: a representative with its sequence and CRC64, members without."""
    label = LABELS[level]
    lines = [
        '<?xml version="1.0" encoding="ISO-8859-1" ?>',
        f'<{label} xmlns="http://uniprot.org/uniref" ',
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ',
        'xsi:schemaLocation="http://uniprot.org/uniref http://www.uniprot.org/support/docs/uniref.xsd" ',
        f' releaseDate="{date}" version="{release}"> ',
    ]
    for cluster in clusters:
        lines += _entry(cluster, level, date)
    lines.append(f"</{label}>")
    return ("\n".join(lines) + "\n").encode("iso-8859-1", errors="xmlcharrefreplace")


def _entry(cluster: Cluster, level: str, date: datetime.date) -> Iterator[str]:
    best = cluster.representative
    yield f'<entry id="{LABELS[level]}_{best.accession}" updated="{date}">'
    yield f"<name>Cluster: {escape(best.name, _QUOTES)}</name>"
    yield _property("member count", len(cluster.members))
    yield _property("common taxon", cluster.common_taxon)
    if cluster.common_taxon_id is not None:
        yield _property("common taxon ID", cluster.common_taxon_id)
    for word, kind, term in _GO_TERMS:
        if word in best.name:
            yield _property(kind, term)
    yield "<representativeMember>"
    yield from _reference(best, cluster, level)
    yield f'<sequence length="{len(best.sequence)}" checksum="{crc64_hex(best.sequence)}">{best.sequence}</sequence>'
    yield "</representativeMember>"
    for member in cluster.members[1:]:
        yield "<member>"
        yield from _reference(member, cluster, level)
        yield "</member>"
    yield "</entry>"


def _reference(protein: Protein, cluster: Cluster, level: str) -> Iterator[str]:
    upi = upi_of(protein.sequence)
    if protein.accession == upi:
        yield f'<dbReference type="UniParc ID" id="{upi}">'
    else:
        yield f'<dbReference type="UniProtKB ID" id="{protein.entry_name}">'
        yield _property("UniProtKB accession", protein.accession)
        yield _property("UniParc ID", upi)
    for other in reversed(LEVELS):
        if other != level:
            yield _property(f"{LABELS[other]} ID", f"{LABELS[other]}_{getattr(protein, other)}")
    yield _property("protein name", protein.name)
    organism = [_property("source organism", protein.organism)]
    if protein.tax_id is not None:
        organism.append(_property("NCBI taxonomy", protein.tax_id))
    # UniProt writes these two in either order
    yield from organism if protein.reviewed else reversed(organism)
    yield _property("length", len(protein.sequence))
    if protein.accession == cluster.seed:
        yield _property("isSeed", "true")
    yield "</dbReference>"


def _property(kind: str, value: object) -> str:
    return f'<property type="{kind}" value="{escape(str(value), _QUOTES)}"/>'


def release_note(level: str, release: str, date: datetime.date, count: int) -> str:
    """The release note of a level, which states its number of clusters."""
    return (
        f"                  UniProt Reference Clusters - {LABELS[level]}\n\n"
        f"                      Release: {release}, {date:%d-%b-%Y}\n"
        f"                      Number of clusters: {count:,}\n\n"
        " Copyrighted by the UniProt Consortium, see http://www.uniprot.org/terms.\n"
        " Distributed under the Creative Commons Attribution (CC BY 4.0) License.\n\n"
    )


def metalink(files: list[Path], directory: str, release: str) -> str:
    """RELEASE.metalink 3.0 of the files in one directory: size, md5 and the ftp:// addresses of the mirrors."""
    text = [
        '<metalink xmlns="http://www.metalinker.org/" version="3.0">\n  <publisher>\n'
        "    <name>UniProt Consortium</name>\n    <url>http://www.uniprot.org/</url>\n  </publisher>\n  <license>\n"
        "    <name>Creative Commons Attribution 4.0 International (CC BY 4.0)</name>\n"
        "    <url>http://creativecommons.org/licenses/by/4.0/</url>\n  </license>\n"
        f"  <description>UniProt</description>\n  <version>{release}</version>\n  <files>\n"
    ]
    for path in files:
        data = path.read_bytes()
        text.append(
            f'    <file name="{path.name}">\n      <size>{len(data)}</size>\n      <verification>\n'
            f'        <hash type="md5">{hashlib.md5(data).hexdigest()}</hash>\n      </verification>\n'
            "      <resources>\n"
        )
        text += [
            f'        <url type="ftp" location="{country}" preference="100">{base}/{directory}/{path.name}</url>\n'
            for country, base in MIRRORS
        ]
        text.append("      </resources>\n    </file>\n")
    return "".join(text) + "  </files>\n</metalink>"


def idmapping_selected(proteins: list[Protein]) -> str:
    """idmapping_selected.tab, 22 columns: 1 accession, 2 entry name, 8-10 UniRef100/90/50, 13 taxon; the rest empty."""
    lines = []
    for protein in sorted(proteins, key=lambda p: p.accession):
        columns = [""] * IDMAPPING_COLUMNS
        columns[0], columns[1] = protein.accession, protein.entry_name
        columns[7] = f"UniRef100_{protein.uniref100}"
        columns[8] = f"UniRef90_{protein.uniref90}"
        columns[9] = f"UniRef50_{protein.uniref50}"
        columns[12] = "" if protein.tax_id is None else str(protein.tax_id)
        lines.append("\t".join(columns) + "\n")
    return "".join(lines)
