"""Markdown that the cards and the export share: tables, the release, the steps."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unirefine.core import summaries
from unirefine.files.lineage import code_of, data_set_of, step_name

UNIPROT_LICENCE = (
    "The sequences are UniProt's, under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). Wherever you pass"
    " them on, name UniProt, keep its [notice](https://www.uniprot.org/help/license), and say that they were selected."
)
"""Of cards, for data that is UniProt's."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: Collection[int] = (0,)) -> str:
    """A Markdown table. text: the columns that stand at the left; the others are numbers."""
    rule = "".join("---|" if at in text else "---:|" for at in range(len(columns)))
    head = ["| " + " | ".join(columns) + " |", f"|{rule}"]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
         (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip


def size_category(sequences: int) -> str:
    """What the Hub calls a data set of that many rows, as in `10K<n<100K`."""
    return next((label for limit, label in SIZES if sequences < limit), "n>1B")


def release_name(lineage: Mapping[str, Any]) -> str:
    """`UniProt 2026_03`, or the name of the input FASTA or data set."""
    released = lineage["release"] or {}
    if summaries.is_own(released):
        first = next(iter(released["files"]), None)  # release.fasta; its tables, other sides and downloads follow
        return f"the FASTA {one_line(first['file'])}" if first else "a FASTA"
    if (name := data_set_of(released)) is not None:
        return f"the data set {one_line(name)}"
    return f"UniProt {released.get('release') or 'of unknown release'}"


def one_line(text: str) -> str:
    """Text of others for a heading or a sentence of Markdown: without line breaks, backquotes, pipes, `<` and `[`."""
    printable = "".join(one if one.isprintable() else " " for one in text)
    return re.sub(r"([\\`|<>\[\]*])", r"\\\1", printable)


def counts_table(lineage: Mapping[str, Any]) -> str:
    """What every stage took in and removed, by level and reason."""
    rows = [
        [
            step_name(one, lineage["release"]), name,
            f"{one['counts'][level]['in']:,}", f"{one['counts'][level]['kept']:,}",
            reasons(one["counts"][level]["removed"]),
        ]
        for one in lineage["steps"]
        for level, name in summaries.units(lineage["release"]).items()
        if "kept" in one["counts"].get(level, {})
    ]  # fmt: skip
    return table(["stage", "what", "in", "kept", "removed"], rows, text=(0, 1, 4))


def published_text(lineage: Mapping[str, Any]) -> str:
    """The published numbers of clusters beside ours, as a paragraph; empty for a user's own FASTA."""
    curated = next((one["counts"] for one in lineage["steps"] if one["stage"] == "curate"), {})
    rows = summaries.published_rows(lineage["release"] or {}, curated)
    return f"\n{summaries.PUBLISHED_TEXT}\n\n{table(summaries.PUBLISHED_COLUMNS, rows)}\n" if rows else ""


_UNIREF = (
    "Suzek et al. 2015, *UniRef clusters: a comprehensive and scalable alternative for improving sequence similarity"
    " searches*, Bioinformatics 31, 926-932, doi:10.1093/bioinformatics/btu739"
)
_MMSEQS = (
    "Steinegger and Söding 2017, *MMseqs2 enables sensitive protein sequence searching for the analysis of massive data"
    " sets*, Nature Biotechnology 35, 1026-1028, doi:10.1038/nbt.3988"
)
_ESM2 = (
    "Lin et al. 2023, *Evolutionary-scale prediction of atomic-level protein structure with a language model*, Science"
    " 379, 1123-1130, doi:10.1126/science.ade2574"
)


def citation_text(lineage: Mapping[str, Any], *, model: bool = False) -> str:
    """What to cite, as a list: the sequences, the search, the recipe, and the code that made it."""
    released = lineage["release"]
    sources = [f"The sequences: {release_name(lineage)}."]
    if not summaries.is_own(released) and data_set_of(released) is None:
        sources.append(f"UniRef: {_UNIREF}.")
    sources.append(f"MMseqs2: {_MMSEQS}.")
    if model:
        sources.append(f"ESM-2: {_ESM2}.")
    made = dict.fromkeys(code_of(one) for one in lineage["steps"])
    return "\n".join(f"- {one}" for one in [*sources, *(f"Made with {code}." for code in made)])


def reasons(removed: Mapping[str, int]) -> str:
    """`artificial taxon 3, purge list 2`."""
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in removed.items()) or "-"


def audit_text(identity: Mapping[str, Any]) -> str:
    """What decontamination removed, and what the audit found. identity: identity.json."""
    held_out = "validation or test" if identity["test"] else "validation"
    return (
        f"{summaries.searched_text(identity)} Train clusters with a sequence that was found similar to {held_out} "
        f"(MMseqs2: at least {summaries.similar_text(identity)}) were removed. A more sensitive search of what is left "
        f"{summaries.audit_text(identity)}. {summaries.sample_text(identity)}"
    )


def benchmarks_text(identity: Mapping[str, Any]) -> str:
    """What became of the files of decontaminate.against, as a paragraph and a table; empty without any."""
    rows = summaries.benchmark_rows(identity)
    if not rows:
        return ""
    return (
        "\nTrain was also searched for what is similar to these proteins, by the same thresholds:\n\n"
        f"{table(summaries.BENCHMARK_COLUMNS, rows)}\n"
    )


def lineage_text(lineage: Mapping[str, Any], beside: str) -> str:
    """Inputs with their md5 and steps with their code, as two tables. beside: what the whole lineage lies beside."""
    released = lineage["release"] or {"files": []}
    files = [[file["file"], f"{file['size']:,}", f"`{file['md5']}`"] for file in released["files"]]
    steps = [[step_name(one, lineage["release"]), code_of(one)] for one in lineage["steps"]]
    unknown = "".join(f"\n\nOf unknown origin: `{path}`." for path in lineage["unknown"])
    return (
        table(["input", "bytes", "md5"], files, text=(0, 2)) + "\n\n" + table(["step", "code"], steps, text=(0, 1))
        + unknown + "\n\nEvery option, version, count and hash: `lineage.json` beside the " + beside + "."
    )  # fmt: skip
