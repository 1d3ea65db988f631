"""Lists of ids that people write: one id a line, in the spellings in which ids are found.

`sp|P12345|AATM_RABIT`, `"P12345",`, `p12345`, `P12345.2`, `P12345/20-100`, `AF-P12345-F1` and `UniRef90_P12345` all
mean P12345. Only what looks like an id of UniProt is read so; any other id is taken as it is written.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirefine.core.ids import OTHER, key_of
from unirefine.errors import UserError

_ACCESSION = r"(?:[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(?:-[1-9][0-9]{0,2})?"
_UNIPROT = re.compile(
    rf"(?:(?:sp|tr|up|uniprot|uniprotkb)[|:])?(?:UniRef\d+_|AF-)?(?P<id>{_ACCESSION}|UPI[0-9A-F]{{10}})"
    r"(?:\.\d+)?(?:\|[^|\s]*)?(?:-F\d+(?:-model_v\d+)?)?(?:/\d+-\d+)?",
    re.IGNORECASE,
)
_ENTRY_NAME = re.compile(
    r"(?:UniRef\d+_)?(?P<name>(?!UniRef\d+_)[A-Z0-9]{1,10}_[A-Z0-9]{1,5})(?:/\d+-\d+)?", re.IGNORECASE
)
_UNIPROTKB = re.compile(r"(?:sp|tr)\|([^|.]+)(?:\.\d+)?\|(\S*)")
_LEVEL = re.compile(r"UniRef\d+_")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_AROUND = "\"'`\u2018\u2019\u201c\u201d,;"


def read_lines(path: Path, fix: str) -> Iterator[tuple[int, str]]:
    """(line number, id as written) of a text with one id a line; `#` starts a comment, `>` a header of FASTA.

    Raises UserError for a file that is not UTF-8, and for a line that is more than one id. fix: what to do then.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text ({error.reason})", where=path, fix=fix) from None
    for number, line in enumerate(lines, 1):
        name = _COMMENT.sub("", line).strip()
        if name.startswith(">"):
            name = name[1:].partition(" ")[0].strip()
        if len(name.split()) > 1 and "#" in name:
            name = name.partition("#")[0].strip()  # a comment without a space before it
        if not name.strip(_AROUND):
            continue
        if len(name.split()) > 1 or not name.isprintable() or name[0] in "<{[":
            raise UserError(f"line {number} is not one id: {name[:60]!r}", where=path, fix=fix)
        yield number, name


def spellings(name: str) -> tuple[str, ...]:
    """What an id of a list may mean, from the id as it is written to the accession or UPI in it, without repeats.

    >>> spellings('"sp|P12345.2|AATM_RABIT",')
    ('"sp|P12345.2|AATM_RABIT",', 'sp|P12345.2|AATM_RABIT', 'P12345')
    >>> spellings("my_gene.1")
    ('my_gene.1',)
    """
    bare = name.strip(_AROUND)
    found = [name, bare]
    if (uniprot := accession_in(bare)) is not None:
        found.append(uniprot)
    elif _LEVEL.match(bare):
        found.append(_LEVEL.sub("", bare, count=1))
    return tuple(dict.fromkeys(found))


def accession_in(name: str) -> str | None:
    """The accession (with its isoform) or UPI that an id of UniProt's spellings has; None for other ids."""
    match = _UNIPROT.fullmatch(name.partition("#")[0])
    return match["id"].upper() if match else None


def entry_name_in(name: str) -> str | None:
    """The name of a UniProt entry, `AATM_RABIT`, when the id is one; None for other ids."""
    match = _ENTRY_NAME.fullmatch(name.strip(_AROUND))
    return match["name"].upper() if match else None


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are: `a, b and 3 more`."""
    shown = ", ".join(name[:60] for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def inner_keys(keys: np.ndarray, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of keys, uint64[n]: of P10636 and of TAU_HUMAN in place of that of `sp|P10636|TAU_HUMAN`."""
    rows = np.flatnonzero(keys >> np.uint64(62) == OTHER)
    if len(rows) == 0:
        return keys, keys
    accessions, names = keys.copy(), keys.copy()
    for row, name in zip(rows.tolist(), ids.take(pa.array(rows)).to_pylist(), strict=True):
        if (match := _UNIPROTKB.match(name)) is not None:
            accessions[row], names[row] = key_of(match[1]), key_of(match[2])
    return accessions, names
