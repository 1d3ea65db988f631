"""Names of the files that stages write: made and parsed here, for the rules and for the stages."""

import re
from collections.abc import Sequence

TAXDUMP = "taxdump.tar.gz"
IDMAPPING = "idmapping_selected.tab.gz"
DATA_SET = "dataset"
"""The directory with a data set of the Hugging Face Hub."""
SHARD_SUFFIXES = ("bin", "idx", "ids.parquet")
"""The files of one shard."""
_RECORD_PART = re.compile(r"(records|members)-(\d{3})-of-(\d{3})\.parquet")
_PURGE_LIST = re.compile(r"purge-(\d+)\.txt")


def numbered(part: int | str, parts: int) -> str:
    """`003-of-064`. part: a number from 0, or a wildcard of a rule (`{part}-of-064`)."""
    return f"{part:0>3}-of-{parts:03d}"


def record_part(kind: str, part: int, parts: int) -> str:
    """`records-003-of-064.parquet`. kind: `records` or `members`."""
    return f"{kind}-{numbered(part, parts)}.parquet"


def parse_record_part(name: str) -> tuple[str, int, int] | None:
    """(kind, part, parts) of a name that `record_part` makes; None for any other name."""
    match = _RECORD_PART.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def search_part(part: int | str, parts: int) -> str:
    """`part-003-of-064`: the stem of decontaminate's queries and results, one part of the train set each."""
    return f"part-{numbered(part, parts)}"


def train_shard(part: int, parts: int) -> str:
    """`train-003-of-064`, without a suffix."""
    return f"train-{numbered(part, parts)}"


def shard_names(parts: int, held_out: Sequence[str]) -> list[str]:
    """Names of all shards, without suffixes. held_out: `validation`, and `test` where there is one; one shard each."""
    return [*(train_shard(part, parts) for part in range(parts)), *held_out]


def shard_files(name: str) -> list[str]:
    """The files of the shard of that name."""
    return [f"{name}.{suffix}" for suffix in SHARD_SUFFIXES]


def level_download(level: str, kind: str) -> str:
    """`uniref50.xml.gz`. kind: `xml` or `fasta`."""
    return f"{level}.{kind}.gz"


def release_note(level: str) -> str:
    """`uniref50.release_note`."""
    return f"{level}.release_note"


def parse_release_note(name: str) -> str | None:
    """The level of a name that `release_note` makes; None for any other name."""
    level, dot, kind = name.partition(".")
    return level if dot and kind == "release_note" else None


def purge_list(number: int) -> str:
    """`purge-0.txt`: the local name of the list at that position of release.purge_lists."""
    return f"purge-{number}.txt"


def parse_purge_list(name: str) -> int | None:
    """The number of a name that `purge_list` makes; None for any other name."""
    match = _PURGE_LIST.fullmatch(name)
    return int(match[1]) if match else None


def release_files(
    levels: Sequence[str], kind: str, *, idmapping: bool = False, taxdump: bool = False, purge_lists: int = 0
) -> list[str]:
    """Names of the downloads of a release. levels: of UniRef; kind: `xml` or `fasta`; purge_lists: how many."""
    names = [level_download(level, kind) for level in levels] + [release_note(level) for level in levels]
    names += [IDMAPPING] if idmapping else []
    names += [TAXDUMP] if taxdump else []
    return names + [purge_list(number) for number in range(purge_lists)]
