"""Find a sequence in the shards by its id."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from unirefine.core.alphabet import decode
from unirefine.core.idlist import spellings
from unirefine.core.tables import open_parquet
from unirefine.dataset.reader import Shards, open_shards
from unirefine.errors import UserError

_LINE = 60


@dataclass(frozen=True)
class Found:
    """A sequence and its position in the shards."""

    id: str
    cluster_id: str
    side: str
    shard: str
    sequence: int
    """Number within the shard."""
    offset: int
    """Byte of the shard's .bin at which it starts."""
    residues: str
    """Its letters; `?` where ESM-2's alphabet has none."""

    def fasta(self) -> str:
        """One FASTA record with the position in its header."""
        lines = [self.residues[i : i + _LINE] for i in range(0, len(self.residues), _LINE)]
        head = f">{self.id} cluster={self.cluster_id} {self.side} {self.shard}.bin offset={self.offset}"
        return "\n".join([head, *lines]) + "\n"


def find_sequence(directory: Path | str, sequence_id: str) -> Found:
    """Look an id up in every shard, scanning all ids: 3 GB for the full UniRef90.

    sequence_id: as in the shards, or in another spelling (`core.idlist`), with or without its level. Raises UserError
    when no shard has it.
    """
    shards = open_shards(directory)
    for name in _names(sequence_id):
        if (found := _find_in_sides(shards, name)) is not None:
            return found
    raise UserError(
        f"{sequence_id} is in no shard", where=directory,
        fix="`unirefine trace` shows at which stage it was removed; validation holds UniRef50 representatives",
    )  # fmt: skip


def _names(sequence_id: str) -> list[str]:
    """What an id may be called in the shards, the most likely first."""
    found = []
    for spelling in spellings(sequence_id):
        found.append(spelling)
        if not spelling.startswith("UniRef"):
            found += [f"UniRef90_{spelling}", f"UniRef50_{spelling}"]
    return list(dict.fromkeys(found))


def _find_in_sides(shards: Shards, sequence_id: str) -> Found | None:
    for side in shards.sides.values():
        before = 0
        for prefix in side.prefixes:
            path = prefix.with_name(prefix.name + ".ids.parquet")
            if (row := _find(path, sequence_id)) is not None:
                sequence, cluster = row
                return Found(
                    id=sequence_id,
                    cluster_id=cluster,
                    side=side.name,
                    shard=prefix.name,
                    sequence=sequence,
                    offset=side.offset(before + sequence),
                    residues=decode(side.tokens(before + sequence)),
                )
            with open_parquet(path, "shard") as table:
                before += table.metadata.num_rows
    return None


def _find(path: Path, sequence_id: str) -> tuple[int, str] | None:
    """(row, cluster id) of an id in one ids.parquet."""
    first = 0
    with open_parquet(path, "shard") as table:
        for group in range(table.num_row_groups):
            ids = table.read_row_group(group, columns=["id"])["id"]
            row = pc.index(ids, pa.scalar(sequence_id)).as_py()
            if row >= 0:
                return first + row, table.read_row_group(group, columns=["cluster_id"])["cluster_id"][row].as_py()
            first += len(ids)
    return None
