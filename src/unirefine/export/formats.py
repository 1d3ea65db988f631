"""The formats of `unirefine export`: their files, and the small ones that are written last."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unirefine.export import tables, text
from unirefine.export.card import dataset_card
from unirefine.export.plan import File, Shards, cut, whole

_MB = 1 << 20
Records = Mapping[str, dict[str, Any]]
"""`{name, bytes, sha256}` of the files of an export by their names."""


@dataclass(frozen=True)
class Format:
    """One format."""

    files: Callable[[Shards], list[File]]
    bytes_a_residue: float
    bytes_a_sequence: int
    """Upper estimates of the disk space, temporary files included."""
    last: Callable[[list[File], Records, Mapping[str, Any]], dict[str, bytes]] = lambda _files, _records, _facts: {}
    """Small files by name, made of the files, their records, and facts about the shards (see `card.dataset_card`)."""


def _bionemo(sides: Shards) -> list[File]:
    held_out = {name: shards for name, shards in sides.items() if name != "train"}
    named = {{"validation": "valid"}.get(name, name): shards for name, shards in held_out.items()}
    return [
        *whole(sides, "{side}.db", tables.write_database),
        *whole({"train": sides["train"]}, "{side}_clusters.parquet", tables.write_members, letters=False),
        *whole(named, "{side}_clusters.parquet", tables.write_held_out, letters=False),
    ]


def _fasta(sides: Shards) -> list[File]:
    return [
        *cut(sides, "{side}-{number:03d}.fasta", text.write_fasta, 1024 * _MB),
        *whole(sides, "{side}_cluster.tsv", text.write_clusters, letters=False),
    ]


def _mds_last(files: list[File], records: Records, _facts: Mapping[str, Any]) -> dict[str, bytes]:
    return {
        f"{side}/index.json": text.mds_index([(file, records[file.name]) for file in files if file.side == side])
        for side in dict.fromkeys(file.side for file in files)
    }


FORMATS = {
    "parquet": Format(
        lambda sides: cut(sides, "{side}/{number:03d}.parquet", tables.write_parquet, 512 * _MB), 0.8, 40,
        lambda _files, _records, facts: {"README.md": dataset_card(facts).encode()},
    ),
    "bionemo": Format(_bionemo, 1.1, 160),
    "fasta": Format(_fasta, 1.0, 120),
    "webdataset": Format(lambda sides: cut(sides, "{side}-{number:06d}.tar", text.write_webdataset, 64 * _MB), 1, 1200),
    "mds": Format(
        lambda sides: cut(sides, "{side}/shard.{number:05d}.mds", text.write_mds, 48 * _MB), 1, 100, _mds_last
    ),
}  # fmt: skip
