"""Tables that the report and the cards have in common, as rows of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from unirefine.core.levels import LEVELS
from unirefine.files.names import release_note
from unirefine.progress import human

UNITS = {"uniref50": "UniRef50 clusters", "uniref90": "UniRef90 sequences"}
"""What is counted at each level of UniRef."""
OWN_UNITS = {"uniref50": "clusters", "uniref90": "sequences"}
"""What is counted at each level of a user's own FASTA, which has nothing of UniRef."""
PUBLISHED_COLUMNS = ("", "published", "release note", "kept by curate", "published equals")
PUBLISHED_TEXT = (
    "A published count may be of the whole release or of what is left without artificial sequences. Where its source "
    "does not say, it stands beside both of ours. A difference is reported and does not fail the run."
)
SMALLEST_RELEASE = 1_000_000
"""Clusters; every release of UniRef50 and UniRef90 of the last fifteen years has more."""
_MMSEQS = {"8cc5c": 18, "b804f": 17, "747c6": 16, "6f452": 15, "7e284": 14, "45111": 13}
"""Releases of MMseqs2 by the first digits of their commit, which is what a release calls its version."""
PERPLEXITY_COLUMNS = ("model", "all chosen", "95% interval", "hidden", "95% interval", "ours / it, hidden")


def is_own(release: Mapping[str, Any] | None) -> bool:
    """Whether a run is of a user's own FASTA. release: release.json."""
    return (release or {}).get("source") == "fasta"


def is_uniprot(release: Mapping[str, Any] | None) -> bool:
    """Whether a run is of a release of UniProt: neither of a user's FASTA nor of a data set. release: release.json."""
    return (release or {}).get("source") not in (None, "fasta", "parquet", "bionemo")


def units(release: Mapping[str, Any] | None) -> dict[str, str]:
    """What is counted at each level. release: release.json."""
    return OWN_UNITS if is_own(release) else UNITS


def published_rows(release: Mapping[str, Any], curated: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of PUBLISHED_COLUMNS, one per level that has a release note; none for a user's own FASTA.

    The number of clusters that somebody published stands beside the release's own, before and after curation:
    65,672,139 is what NVIDIA published for UniRef50 2024_03, without saying whether artificial sequences were counted.
    A level that is a small part of what was published, or of any release, as the demo is, has no row.
    release: release.json. curated: curate's counts by level, `{level: {in, kept, removed}}`.
    """
    rows = []
    stated = release.get("entries", {})  # missing in a release.json of an older version
    for level in LEVELS:
        if level not in stated or level not in curated:
            continue
        before, after = stated[level], curated[level]["kept"]
        known = [one for one in release["published"] if (one["file"], one["what"]) == (release_note(level), "entries")]
        least = min((int(one["published"]) // 2 for one in known), default=SMALLEST_RELEASE)
        if before < least:
            continue
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


def tool_text(name: str, version: str) -> str:
    """A tool with its version as its authors write it: `MMseqs2 18-8cc5c`, `torch 2.13.0`."""
    if name != "mmseqs":
        return f"{name} {version}"
    number = _MMSEQS.get(version[:5])
    return f"MMseqs2 {version if number is None else f'{number}-{version[:5]}'}"


def hardware_text(one: Mapping[str, Any]) -> str:
    """The machine of a training: `2 cores of AMD EPYC, 25.3 GB of memory, 2 processes`.

    one: an entry of `hardware` in train.json.
    """
    cores = f"{one['cores']:,} core{'s' * (one['cores'] > 1)} of {one['cpu']}"
    node = f"{cores}, {human(one['memory_bytes'], 'B')} of memory"
    if one["nodes"] > 1:
        node = f"{one['nodes']:,} nodes, each with {node}"
    if one["gpus"]:
        return f"{one['gpus']:,} x {one['gpu']}, {node}"
    return f"{node}, {one['processes']:,} process{'es' * (one['processes'] > 1)}"


def trained_on(trained: Mapping[str, Any]) -> list[str]:
    """What trained a model, a sentence for each change of machine; nothing for a model of an older version.

    trained: train.json.
    """
    return [
        (f"From step {one['after_step'] + 1:,} on: " if one["after_step"] else "Trained on ")
        + f"{hardware_text(one)}; began {one['date'][:16].replace('T', ' ')} UTC."
        for one in trained.get("hardware", [])
    ]


def perplexity_rows(evaluation: Mapping[str, Any]) -> list[list[str]]:
    """Rows of PERPLEXITY_COLUMNS, one per model or baseline; a baseline is measured where the residue is hidden.

    evaluation: perplexity.json. Raises UserError for one of a version that did not measure that.
    """
    rows = []
    for row in evaluation["table"]:
        everything = perplexity_cells(row) if "perplexity" in row else ["", ""]
        hidden, ratio = row["hidden"], ""
        if None not in (hidden.get("ratio"), hidden.get("ratio_interval")):
            low, high = hidden["ratio_interval"]
            ratio = f"{hidden['ratio']:.3f} ({low:.3f} to {high:.3f})"
        rows.append([row["model"], *everything, *perplexity_cells(hidden), ratio])
    return rows


def perplexity_cells(measured: Mapping[str, Any]) -> list[str]:
    """A perplexity and its interval; `-` where nothing was measured. measured: with keys `perplexity`, `interval`."""
    value, interval = measured["perplexity"], measured["interval"]
    return ["-" if value is None else f"{value:.3f}", f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "-"]


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of text: the first column to the left, the others, which are numbers, to the right."""
    table = [columns, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def chosen_text(evaluation: Mapping[str, Any]) -> str:
    """What `all chosen` and `hidden` mean, and how the first model does at each kind of position, as sentences.

    evaluation: perplexity.json.
    """
    ours, found = evaluation["table"][0], []
    for kind, what in (
        ("hidden", "hidden by the mask token"),
        ("kept", "left as they are"),
        ("random", "replaced by another"),
    ):
        value = ours[kind]["perplexity"]
        found.append(f"{evaluation[kind]:,} {what}" + ("" if value is None else f" (perplexity {value:.2f})"))
    return (
        f"All chosen: {evaluation['masked']:,} residues of {evaluation['sequences']:,} validation sequences, of which "
        f"{found[0]}, {found[1]} and {found[2]}. It is the published measure, which a model lowers by repeating "
        "what it sees at those left as they are. Hidden: the first kind alone, the only one where a model is asked the "
        "same as a baseline, which never sees the residue."
    )


def hidden_text(evaluation: Mapping[str, Any]) -> str:
    """The first model's perplexity where the residue is hidden, beside the best baseline's.

    evaluation: perplexity.json.
    """
    ours, baselines = evaluation["table"][0], [row for row in evaluation["table"] if "perplexity" not in row]
    found = ours["hidden"]["perplexity"]
    if found is None:
        return f"masked perplexity {ours['perplexity']:.2f}; no residue was hidden"
    known = [(row["hidden"]["perplexity"], row["model"]) for row in baselines if row["hidden"]["perplexity"]]
    beside = "; the best baseline, {1}: {0:.2f}".format(*min(known)) if known else ""
    return f"perplexity of hidden residues {found:.2f}{beside}"


def beaten_text(evaluation: Mapping[str, Any]) -> str:
    """Which baselines the first model is better than where the residue is hidden, as a sentence.

    evaluation: perplexity.json.
    """
    better, not_better = [], []
    for row in evaluation["table"]:
        if "perplexity" in row or row["hidden"]["ratio_interval"] is None:
            continue
        (better if row["hidden"]["ratio_interval"][1] < 1 else not_better).append(row["model"])
    name = evaluation["table"][0]["model"]
    if not better + not_better:
        return "No residue is hidden, so nothing says whether the model is better than a baseline."
    if not not_better:
        return f"{name} is better than every baseline where the residue is hidden: {', '.join(better)}."
    if not better:
        return f"{name} is NOT better than any baseline where the residue is hidden: {', '.join(not_better)}."
    return (
        f"{name} is NOT better than {', '.join(not_better)} where the residue is hidden, but better than"
        f" {', '.join(better)}."
    )


_COVERED = {0: "of both", 1: "of the held-out sequence", 2: "of the train sequence"}


def similar_text(identity: Mapping[str, Any]) -> str:
    """What counts as similar: `50% identity over 80% of both`. identity: identity.json."""
    mode = identity["search"]["coverage_mode"]
    covered = _COVERED.get(mode, f"by length (MMseqs2's coverage mode {mode})")
    return f"{identity['threshold']:.0%} identity over {identity['coverage']:.0%} {covered}"


def searched_text(identity: Mapping[str, Any]) -> str:
    """Which sequences were searched, and how many pairs MMseqs2 could not align. identity: identity.json."""
    if identity["level"] == "members":
        text = "Every member of the train clusters was searched against every member of the held-out clusters."
    else:
        text = "Only the representatives of the clusters were searched, not the members that training draws."
    giants = identity["giants"]
    if giants["train"] and giants["held_out"]:
        text += (
            f" {giants['train']:,} train and {giants['held_out']:,} held-out proteins are too long for MMseqs2's"
            f" scores: {giants['pairs']:,} pairs of them were aligned by an exact aligner, {giants['hits']:,} are hits."
        )
    return text


BENCHMARK_COLUMNS = ("benchmark", "proteins", "near before", "near after", "clusters removed", "similar clusters left")


def benchmark_rows(identity: Mapping[str, Any]) -> list[list[str]]:
    """Rows of BENCHMARK_COLUMNS, one per file of decontaminate.against.

    near: proteins with a train sequence at or above the threshold. identity: identity.json.
    """
    rows = []
    for one in identity.get("benchmarks", []):
        first = sum(edge < identity["threshold"] for edge in identity["edges"])  # bin at the threshold
        near = [sum(one[when]["counts"][first:]) for when in ("before", "after")]
        numbers = [one["proteins"], *near, one["removed"], one["similar"]]
        name = one["name"] + (" (reported only)" if one["action"] == "report" else "")
        rows.append([name, *(f"{number:,}" for number in numbers)])
    return rows


def audit_text(identity: Mapping[str, Any]) -> str:
    """What the audit's search found, as a part of a sentence. identity: identity.json."""
    searched = identity["audit"]["searched"]
    if searched["clusters"] == searched["train"]:
        return f"found {identity['audit']['hits']:,} hits"
    return (
        f"found a hit in {searched['similar']:,} of {searched['clusters']:,} clusters, drawn at random from the "
        f"{searched['train']:,} of train, so {searched['low']:,} to {searched['high']:,} of all have one (95% interval)"
    )


def sample_text(identity: Mapping[str, Any]) -> str:
    """What the audit's sample found, as sentences. identity: identity.json."""
    audit, left = identity["audit"], identity["audit"]["members_left"]
    if left is None:
        return "No sample was aligned exactly."
    clusters = left["clusters"]
    text = (
        f"Of {audit['sampled_clusters']:,} train clusters, drawn at random and aligned with every held-out sequence by "
        f"an exact aligner that is not MMseqs2, the searches had missed {audit['sampled_clusters_missed']:,}. Of the "
        f"{left['sampled']:,} members of these clusters, {left['similar']:,} are similar to a held-out sequence"
    )
    if clusters["sampled"] == clusters["train"]:
        return f"{text}; these are all of train."
    return (
        f"{text}, in {clusters['similar']:,} clusters; of all {clusters['train']:,} train clusters, "
        f"{clusters['low']:,} to {clusters['high']:,} have such a member (95% interval)."
    )
