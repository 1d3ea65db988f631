"""Tables that the report and the cards have in common, as rows of text."""

from collections.abc import Mapping
from typing import Any

from unirefine.core.levels import LEVELS
from unirefine.files.names import release_note

UNITS = {"uniref50": "UniRef50 clusters", "uniref90": "UniRef90 sequences"}
"""What is counted at each level of UniRef."""
OWN_UNITS = {"uniref50": "clusters", "uniref90": "sequences"}
"""What is counted at each level of a user's own FASTA, which has nothing of UniRef."""
PUBLISHED_COLUMNS = ("", "published", "release note", "kept by curate", "published equals")
PUBLISHED_TEXT = (
    "A published count may be of the whole release or of what is left without artificial sequences. Where its source "
    "does not say, it stands beside both of ours. A difference is reported and does not fail the run."
)
PERPLEXITY_COLUMNS = ("model", "perplexity", "95% interval", "ours / it")


def is_own(release: Mapping[str, Any] | None) -> bool:
    """Whether a run is of a user's own FASTA. release: release.json."""
    return (release or {}).get("source") == "fasta"


def units(release: Mapping[str, Any] | None) -> dict[str, str]:
    """What is counted at each level. release: release.json."""
    return OWN_UNITS if is_own(release) else UNITS


def published_rows(release: Mapping[str, Any], curated: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of PUBLISHED_COLUMNS, one per level that has a release note; none for a user's own FASTA.

    The number of clusters that somebody published stands beside the release's own, before and after curation:
    65,672,139 is what NVIDIA published for UniRef50 2024_03, without saying whether artificial sequences were counted.
    release: release.json. curated: curate's counts by level, `{level: {in, kept, removed}}`.
    """
    rows = []
    stated = release.get("entries", {})  # missing in a release.json of an older version
    for level in LEVELS:
        if level not in stated or level not in curated:
            continue
        before, after = stated[level], curated[level]["kept"]
        known = [one for one in release["published"] if (one["file"], one["what"]) == (release_note(level), "entries")]
        for one in known or [None]:
            count = int(one["published"]) if one else None
            shown = f"{count:,} ({one['source']})" if one else "not known"
            name = f"UniRef{level.removeprefix('uniref')} clusters"
            rows.append([name, shown, f"{before:,}", f"{after:,}", _equals(count, before, after)])
    return rows


def _equals(published: int | None, before: int, after: int) -> str:
    if published is None:
        return "-"
    if published == before:
        return "before and after curation" if before == after else "before curation"
    return "after curation" if published == after else "neither"


def perplexity_rows(evaluation: Mapping[str, Any]) -> list[list[str]]:
    """Rows of PERPLEXITY_COLUMNS, one per model or baseline. evaluation: perplexity.json."""
    rows = []
    for row in evaluation["table"]:
        low, high = row.get("interval", (None, None))
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        ratio = f"{row['ratio']:.3f}" if "ratio" in row else ""
        rows.append([row["model"], f"{row['perplexity']:.3f}", interval, ratio])
    return rows


def audit_sample_text(audit: Mapping[str, Any]) -> str:
    """What the audit's sample found, as the end of a sentence. audit: that of identity.json."""
    return (
        f"of {audit['sampled_clusters']:,} train clusters that were aligned with every held-out sequence without a "
        f"prefilter, the searches had missed {audit['sampled_clusters_missed']:,}"
    )
