"""The published number of clusters beside the release's own, before and after curation.

65,672,139 is what NVIDIA published for UniRef50 2024_03, and nobody says whether artificial sequences were counted. So
the three numbers are shown side by side, and which of ours the published one equals. A difference is no error.
"""

from collections.abc import Mapping
from typing import Any

WHY = (
    "A published count may be of the whole release or of what is left without artificial sequences. Where its source "
    "does not say, both of ours stand beside it. A difference is told, and is no error."
)
COLUMNS = ("", "published", "release note", "kept by curate", "published equals")
LEVELS = {"uniref50": "UniRef50 clusters", "uniref90": "UniRef90 clusters"}


def count_rows(release: Mapping[str, Any], curated: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of COLUMNS, one per level with a release note or a published count; none for a lab's own FASTA.

    release: release.json. curated: curate's counts by level, `{level: {in, kept, removed}}`.
    """
    rows = []
    stated = release.get("entries", {})  # written before there were any: none
    for level, name in LEVELS.items():
        if level not in stated or level not in curated:
            continue
        before, after = stated[level], curated[level]["kept"]
        known = [
            one for one in release["published"] if (one["file"], one["what"]) == (f"{level}.release_note", "entries")
        ]
        for one in known or [None]:
            published = int(one["published"]) if one else None
            told = f"{published:,} ({one['source']})" if one else "not known"
            rows.append([name, told, f"{before:,}", f"{after:,}", _equals(published, before, after)])
    return rows


def _equals(published: int | None, before: int, after: int) -> str:
    if published is None:
        return "-"
    if published == before:
        return "before and after curation" if before == after else "before curation"
    return "after curation" if published == after else "neither"
