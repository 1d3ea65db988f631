"""A table of families of proteins, and one finished fine-tuning of it."""

import csv
import random
from pathlib import Path

import pytest

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def families(count: int = 14, members: int = 3, length: int = 44) -> list[tuple[str, str]]:
    """(id, sequence) of `members` similar proteins (about 80% identity) of each family."""
    draw = random.Random(4)
    found = []
    for family in range(count):
        seed = [draw.choice(LETTERS) for _ in range(length)]
        for member in range(members):
            sequence = [draw.choice(LETTERS) if draw.random() < 0.2 * member else one for one in seed]
            found.append((f"f{family}-{member}", "".join(sequence)))
    return found


@pytest.fixture(scope="session")
def tables(tmp_path_factory) -> Path:
    """A directory with `class.csv`, `number.csv`, `residue.csv` and `sets.csv`, with labels by the letters."""
    directory = tmp_path_factory.mktemp("tables")
    proteins = families()
    labels = {
        "class": [("a" if sequence.count("K") + sequence.count("R") > 4 else "b") for _, sequence in proteins],
        "number": [f"{sum(map(sequence.count, 'AVILMFW')) / len(sequence):.4f}" for _, sequence in proteins],
        "sets": [";".join(f"much {one}" for one in "KLW" if sequence.count(one) > 2) for _, sequence in proteins],
        "residue": ["".join("+" if one in "KR" else "-" for one in sequence) for _, sequence in proteins],
    }
    for name, column in labels.items():
        rows = [(*protein, label) for protein, label in zip(proteins, column, strict=True)]
        with (directory / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("id", "sequence", "label"), *rows])
    (directory / "all.fasta").write_text("".join(f">{name}\n{sequence}\n" for name, sequence in proteins))
    return directory
