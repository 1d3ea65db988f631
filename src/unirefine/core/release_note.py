"""UniProt's release note of a level: which release, and its number of clusters."""

import re
from dataclasses import dataclass
from pathlib import Path

from unirefine.errors import UserError

_RELEASE = re.compile(r"Release:?\s*(\d{4}_\d{2})")
_COUNT = re.compile(
    # possessive and not in the middle of a number, so that the time grows with the length of the note
    r"Number of (?:clusters|entries)\s*+[:=]?+\s*+(\d[\d,. ]*+)|(?<![\d,.])(\d[\d,.]*+)\s++(?:clusters|entries)\b",
    re.IGNORECASE | re.ASCII,
)
_MOST_BYTES = 1 << 20
_MOST_DIGITS = 12
_LEVEL = re.compile(r"UniRef\s?(50|90|100)\b")


@dataclass(frozen=True)
class ReleaseNote:
    """What a release note states about one level."""

    release: str | None
    """As in `2024_03`."""
    entries: int
    """Clusters of the level."""


def read_note(path: Path, level: str) -> ReleaseNote:
    """Read a release note. Raises UserError when it is missing, of another level, or states no number of clusters.

    level: as in `uniref50`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="check --release-note, or run the release stage") from None
    named = _LEVEL.search(text)
    if named and f"uniref{named[1]}" != level:
        raise UserError(
            f"the release note of UniRef{named[1]}, not of {level}", where=path, fix="give the note of that level"
        )
    count = _COUNT.search(text)
    digits = re.sub(r"\D", "", count[1] or count[2], flags=re.ASCII) if count else ""
    if not 0 < len(digits) <= _MOST_DIGITS:
        raise UserError(
            "states no number of clusters",
            where=path,
            fix="fetch it again; records run by hand can leave --release-note out",
        )
    release = _RELEASE.search(text)
    return ReleaseNote(release[1] if release else None, int(digits))
