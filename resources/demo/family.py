"""A family out of the demo's proteins, to continue its model on: the ribosomal proteins.

    python resources/demo/family.py --shards results/demo/shard --output results/demo-continue.fasta

Only proteins that the demo trains on are taken. None of them is similar to a validation protein of the demo, so the
demo's validation shard says what a model continued on the family has forgotten.
"""

import argparse
import lzma
import re
from pathlib import Path

import pyarrow.parquet as pq

HERE = Path(__file__).parent
FAMILY = re.compile(r"\bribosomal (subunit )?protein", re.IGNORECASE)


def trained(shards: Path) -> set[str]:
    """Accessions of the UniRef90 representatives among the train sequences."""
    ids = [
        name for path in sorted(shards.glob("train-*.ids.parquet")) for name in pq.read_table(path)["id"].to_pylist()
    ]
    return {name.removeprefix("UniRef90_") for name in ids}


def main() -> None:
    """Write the FASTA."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="the demo's shards")
    parser.add_argument("--output", type=Path, required=True, help="FASTA to write")
    arguments = parser.parse_args()
    known, entries = trained(arguments.shards), []
    for name in ("uniprotkb-1.fasta.xz", "uniprotkb-2.fasta.xz"):
        with lzma.open(HERE / name, "rt") as file:
            for entry in file.read().removeprefix(">").split("\n>"):
                header = entry.partition("\n")[0]
                if FAMILY.search(header.partition(" OS=")[0]) and header.split("|")[1] in known:
                    entries.append(f">{entry.rstrip()}\n")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("".join(entries))
    print(f"wrote {arguments.output}: {len(entries):,} ribosomal proteins that the demo trains on")


if __name__ == "__main__":
    main()
