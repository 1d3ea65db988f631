"""Two tables to fine-tune on, made of the demo's proteins.

    python resources/demo/tables.py --output results/demo-finetune/tables

`kingdom.csv`: Bacteria, Archaea, Eukaryota or Viruses, by NCBI's taxonomy of the organism (several classes).
`sequons.csv`: an `N` at each asparagine of a sequon of N-glycosylation, N-X-S or N-X-T with X not P (a class for each
residue; whether it is glycosylated is not known). For numbers there is amyloid_beta.csv beside this script.
"""

import argparse
import csv
import lzma
import random
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
LONGEST = 200
SEQUON = re.compile(r"(?=N[^P][ST])")
KINGDOMS = ("Bacteria", "Archaea", "Eukaryota", "Viruses")


def proteins() -> Iterator[tuple[str, str, str]]:
    """(accession, organism, sequence) of the demo's entries that are no fragments."""
    for name in ("uniprotkb-1.fasta.xz", "uniprotkb-2.fasta.xz"):
        with lzma.open(HERE / name, "rt") as file:
            for entry in file.read().split("\n>"):
                header, _, lines = entry.removeprefix(">").partition("\n")
                organism = re.search(r" OS=(.*?)(?: [A-Z]{2}=|$)", header)
                if organism and "(Fragment" not in header:
                    yield header.split("|")[1], organism[1], lines.replace("\n", "")


def kingdoms() -> dict[str, str]:
    """Kingdom by organism, where its taxon is known."""
    parent, name = {}, {}
    with lzma.open(HERE / "taxonomy.tsv.xz", "rt") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            parent[row["tax_id"]], name[row["tax_id"]] = row["parent"], row["name"]
    found = {}
    with lzma.open(HERE / "organisms.tsv.xz", "rt") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            taxon = row["tax_id"]
            while taxon in parent and name[taxon] not in KINGDOMS and parent[taxon] != taxon:
                taxon = parent[taxon]
            if name.get(taxon) in KINGDOMS:
                found[row["organism"]] = name[taxon]
    return found


def sequons(sequence: str) -> str:
    """`N` at the asparagine of each sequon, `.` elsewhere."""
    at = {match.start() for match in SEQUON.finditer(sequence)}
    return "".join("N" if place in at else "." for place in range(len(sequence)))


def write(path: Path, column: str, rows: list[tuple[str, str, str]]) -> None:
    """Write a table of (id, sequence, label)."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "sequence", column), *rows])


def main() -> None:
    """Write the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("--sequences", type=int, default=600, help="rows of a table (default: 600)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    of = kingdoms()
    chosen = [one for one in proteins() if 50 <= len(one[2]) <= LONGEST and set(one[2]) <= set("ACDEFGHIKLMNPQRSTVWY")]
    random.Random(7).shuffle(chosen)
    known = [(name, sequence, of[organism]) for name, organism, sequence in chosen if organism in of]
    write(arguments.output / "kingdom.csv", "kingdom", known[: arguments.sequences])
    some = chosen[: arguments.sequences]
    write(
        arguments.output / "sequons.csv", "sequons", [(name, sequence, sequons(sequence)) for name, _, sequence in some]
    )
    print(f"wrote {arguments.output}/kingdom.csv and {arguments.output}/sequons.csv")


if __name__ == "__main__":
    main()
