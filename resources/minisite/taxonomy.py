"""A taxonomy tree: lowest common ancestors, and the tree as NCBI's taxdump.tar.gz."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

ARTIFICIAL = 81077
_UNASSIGNED, _SYNTHETIC = 8, 7
_DIVISIONS = ((_SYNTHETIC, "SYN", "Synthetic and Chimeric"), (_UNASSIGNED, "UNA", "Unassigned"))


class Taxonomy:
    """Taxa by NCBI id: `parents`, `ranks`, `names`. The root is its own parent."""

    def __init__(self, rows: Iterable[list[str]]) -> None:
        """rows: (tax_id, parent, rank, name) of every taxon, ancestors included."""
        self.parents: dict[int, int] = {}
        self.ranks: dict[int, str] = {}
        self.names: dict[int, str] = {}
        for tax_id, parent, rank, name in rows:
            taxon = int(tax_id)
            self.parents[taxon], self.ranks[taxon], self.names[taxon] = int(parent), rank, name

    def lineage(self, taxon: int) -> list[int]:
        """The taxon and its ancestors up to the root (1)."""
        line = [taxon]
        while self.parents[line[-1]] != line[-1]:
            line.append(self.parents[line[-1]])
        return line

    def common_ancestor(self, taxa: Iterable[int]) -> int:
        """The lowest taxon that has all of `taxa` in its subtree."""
        first, *others = taxa
        shared = self.lineage(first)
        for taxon in others:
            above = set(self.lineage(taxon))
            shared = [ancestor for ancestor in shared if ancestor in above]
        return shared[0]

    def nodes_dmp(self) -> str:
        """nodes.dmp: 13 columns. Those after the rank and the division are NCBI's defaults, not its values."""
        lines = []
        for taxon, parent in self.parents.items():
            division = _SYNTHETIC if ARTIFICIAL in self.lineage(taxon) else _UNASSIGNED
            columns = [taxon, parent, self.ranks[taxon], "", division, 1, 1, 1, 1, 1, 0, 0, ""]
            lines.append(_dmp(columns))
        return "".join(lines)

    def names_dmp(self) -> str:
        """names.dmp: taxon, name, unique name, name class."""
        return "".join(_dmp([taxon, name, "", "scientific name"]) for taxon, name in self.names.items())

    def write_taxdump(self, path: Path, gzip_bytes) -> None:
        """Write taxdump.tar.gz with nodes.dmp, names.dmp, division.dmp, merged.dmp and delnodes.dmp."""
        divisions = "".join(_dmp([number, code, name, ""]) for number, code, name in _DIVISIONS)
        files = {
            "delnodes.dmp": "",
            "division.dmp": divisions,
            "merged.dmp": "",
            "names.dmp": self.names_dmp(),
            "nodes.dmp": self.nodes_dmp(),
        }
        path.write_bytes(gzip_bytes(tar_bytes({name: text.encode() for name, text in files.items()})))


def tar_bytes(files: dict[str, bytes]) -> bytes:
    """A tar archive of files in order, without dates and owners, so that its bytes depend on the files only."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _dmp(columns: list[object]) -> str:
    return "\t|\t".join(str(column) for column in columns) + "\t|\n"
