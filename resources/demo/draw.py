"""Draw the demo's proteins out of Debian's package mmseqs2-examples and cluster them with MMseqs2.

    python resources/demo/draw.py DB.fasta.gz --mmseqs /path/to/mmseqs

DB.fasta.gz is usr/share/doc/mmseqs2/example-data/DB.fasta.gz of the package. Written beside this script:
uniprotkb-1.fasta.xz and uniprotkb-2.fasta.xz (every entry, in the package's order) and clusters.tsv.xz.

Clusters are built as UniRef's are: UniRef100 of identical sequences, UniRef90 of those at 90% identity, UniRef50 of
the UniRef90 seeds at 50%, each with 80% overlap; the seed is the longest member, the representative the best
annotated one.
"""

import argparse
import gzip
import lzma
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
FILES = 2
POOR_NAME = re.compile(r"uncharacterized|hypothetical|probable|putative|predicted|whole genome shotgun|fragment", re.I)


def read_entries(path: Path) -> list[tuple[str, str]]:
    """(header without `>` and without the package's ` Split=0`, sequence) of every entry."""
    entries: list[tuple[str, list[str]]] = []
    with gzip.open(path, "rt", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(">"):
                entries.append((line[1:].rstrip().removesuffix("Split=0").rstrip(), []))
            else:
                entries[-1][1].append(line.strip())
    return [(header, "".join(sequence)) for header, sequence in entries]


def cluster(sequences: dict[str, str], identity: float, mmseqs: str) -> dict[str, list[str]]:
    """Greedy clusters by length: seed -> members, the seed among them."""
    ordered = sorted(sequences.items(), key=lambda item: (-len(item[1]), item[0]))
    with tempfile.TemporaryDirectory() as scratch:
        fasta = Path(scratch, "in.fasta")
        fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in ordered))
        command = [mmseqs, "easy-cluster", fasta, f"{scratch}/out", f"{scratch}/tmp", "--min-seq-id", identity]
        command += ["-c", 0.8, "--cov-mode", 0, "--cluster-mode", 2, "--threads", 2, "-v", 1]
        subprocess.run([str(part) for part in command], check=True)
        members = defaultdict(list)
        for line in Path(scratch, "out_cluster.tsv").read_text().splitlines():
            seed, member = line.split("\t")
            members[seed].append(member)
    return members


def rank(header: str, sequence: str) -> tuple:
    """UniProt's order of representatives: reviewed, well named, long; the accession breaks ties."""
    database, accession, rest = header.split("|", 2)
    return database != "sp", bool(POOR_NAME.search(rest.split(" OS=")[0])), -len(sequence), accession


def draw_clusters(entries: list[tuple[str, str]], mmseqs: str) -> list[tuple[str, str, str]]:
    """(accession, UniRef90 representative, UniRef50 representative) of every entry, by accession."""
    ranks = {header.split("|")[1]: rank(header, sequence) for header, sequence in entries}
    identical = defaultdict(list)
    for header, sequence in entries:
        identical[sequence].append(header.split("|")[1])
    same = {min(members): members for members in identical.values()}
    by_name = {min(members): sequence for sequence, members in identical.items()}
    level90 = cluster(by_name, 0.9, mmseqs)
    level50 = cluster({seed: by_name[seed] for seed in level90}, 0.5, mmseqs)
    rows = []
    for seeds in level50.values():
        members = {seed: [name for first in level90[seed] for name in same[first]] for seed in seeds}
        representatives = {seed: min(names, key=ranks.__getitem__) for seed, names in members.items()}
        best = min(representatives.values(), key=ranks.__getitem__)
        rows += [(name, representatives[seed], best) for seed, names in members.items() for name in names]
    return sorted(rows)


def write_xz(path: Path, text: str) -> None:
    path.write_bytes(lzma.compress(text.encode("ascii"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="DB.fasta.gz of the package")
    parser.add_argument("--mmseqs", default="mmseqs", help="MMseqs2 binary")
    arguments = parser.parse_args()
    entries = read_entries(arguments.database)
    share = -(-len(entries) // FILES)
    for number in range(FILES):
        text = "".join(
            f">{header}\n{sequence}\n" for header, sequence in entries[number * share : (number + 1) * share]
        )
        write_xz(HERE / f"uniprotkb-{number + 1}.fasta.xz", text)
    rows = draw_clusters(entries, arguments.mmseqs)
    header = "accession\tuniref90\tuniref50\n"
    write_xz(HERE / "clusters.tsv.xz", header + "".join("\t".join(row) + "\n" for row in rows))
    print(f"{len(rows):,} entries, {len({r[1] for r in rows}):,} UniRef90, {len({r[2] for r in rows}):,} UniRef50")


if __name__ == "__main__":
    main()
