"""An audit as one HTML page that opens offline."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unirefine.audit.held_out import AUDIT, EXACT, IDENTICAL, SEARCH
from unirefine.report import figures
from unirefine.report.page import Picture, Section, Table, render_page

_CHECKS = {
    SEARCH: "the first search (-s {search})",
    AUDIT: "the more sensitive search (-s {audit})",
    EXACT: "the exact alignment of a sample of train",
    IDENTICAL: "equal letters",
}
_COVERED = {
    0: "of both sequences",
    1: "of the held-out sequence",
    2: "of the train sequence",
    3: "of the train sequence's length by the held-out one's",
    4: "of the held-out sequence's length by the train one's",
    5: "of the longer sequence's length by the shorter one's",
}


def similar_text(result: Mapping[str, Any]) -> str:
    """What makes a leak: `identity 0.5 over 80% of both sequences, with an E-value of at most 0.001`."""
    return (
        f"identity {result['threshold']:g} over {result['coverage']:.0%} {_COVERED[result['coverage_mode']]},"
        f" with an E-value of at most {result['evalue']:g}"
    )


def verdict(result: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    share = result["leaks"] / result["held_out"]
    return (
        f"{result['leaks']:,} of {result['held_out']:,} held-out sequences ({share:.2%}) have a similar train sequence"
        f" ({similar_text(result)}); allowed: {result['allowed']:,}"
    )


def sample_text(result: Mapping[str, Any]) -> str:
    """What the exact sample has found."""
    sample = result["sample"]
    if sample is None:
        return "No sample of train was aligned exactly."
    return (
        f"{sample['train']:,} train sequences, drawn by hash, were aligned with every held-out sequence by an exact"
        f" aligner that is not MMseqs2 ({sample['pairs']:,} pairs whose lengths allow the coverage):"
        f" {sample['similar']:,} of them are similar to a held-out sequence, and the searches had missed"
        f" {sample['missed']:,} of these. So of all {result['train']['sequences']:,} train sequences they missed"
        f" {sample['missed_low']:,} to {sample['missed_high']:,} (95% interval)."
    )


def histogram(result: Mapping[str, Any]) -> str:
    """The figure: held-out sequences by the identity of the nearest train sequence, as an inline SVG."""
    names = _short([one["path"] for one in result["against"]])
    return figures.histogram(
        np.array(result["edges"]),
        {name: np.array(one["counts"]) for name, one in zip(names, result["against"], strict=True)},
        "identity of the nearest train sequence",
        "held-out sequences",
        log_x=False,
        log_y=False,
        mark=result["threshold"],
    )


def _short(paths: list[str]) -> list[str]:
    """The last parts of paths, as many as make them different."""
    for depth in range(1, 1 + max(path.count("/") + 1 for path in paths)):
        names = ["/".join(path.split("/")[-depth:]) for path in paths]
        if len(set(names)) == len(paths):
            return names
    return paths


def page(result: Mapping[str, Any]) -> str:
    """The page as HTML. result: what is in audit.json."""
    sources = [
        [one["path"], one["kind"], f"{one['sequences']:,}", f"{one['leaks']:,}", f"{one['none']:,}"]
        for one in result["against"]
    ]
    settings = {name: f"{result[name]['sensitivity']:g}" for name in ("search", "audit")}
    found = [[_CHECKS[check].format(**settings), f"{count:,}"] for check, count in result["found_by"].items()]
    worst = [
        [one["id"], one["train"], f"{one['identity']:.3f}", "leak" if one["leak"] else "", one["check"]]
        for one in result["worst"]
    ]
    far = sum(one["none"] for one in result["against"])
    trained = ", ".join(f"{one['path']} ({one['kind']})" for one in result["train"]["sources"])
    giants = result["giants"]
    made_by = [f"{name} {one}" for name, one in (result["versions"] | {"MMseqs2": result["mmseqs"]}).items()]
    text = [sample_text(result)]
    if giants["pairs"]:
        text.append(
            f"{giants['train']:,} train and {giants['held_out']:,} held-out sequences are too long for MMseqs2's"
            f" scores; {giants['pairs']:,} pairs of them, whose lengths allow the coverage, were aligned exactly."
        )
    return render_page(
        title="Audit of a split",
        summary=f"{'Clean' if result['clean'] else 'Leaky'}: {verdict(result)}.",
        tiles=[
            (f"{result['held_out']:,}", "held-out sequences"),
            (f"{result['leaks']:,}", "of them similar to train"),
            (f"{result['train']['sequences']:,}", "train sequences"),
            (f"{result['similar_train']:,}", "of them similar to held-out ones, as far as searched"),
        ],
        sections=[
            Section(
                heading="How near train is",
                text=[f"Train: {trained}."],
                tables=[
                    Table(
                        title="Held-out sequences",
                        columns=["source", "kind", "sequences", "leaks", "no alignment"],
                        rows=sources,
                        numeric=[2, 3, 4],
                        opened=True,
                    )
                ],
                figures=[
                    Picture(
                        name="identity",
                        svg=histogram(result),
                        caption="Each held-out sequence by its nearest train sequence, among alignments that pass"
                        " coverage and E-value. Those right of the dotted line are leaks."
                        f" {far:,} have no such alignment and are not in the figure.",
                    )
                ],
            ),
            Section(
                heading="How leaks were found",
                text=text,
                tables=[
                    Table(
                        title="Best hit of each leak",
                        columns=["found by", "leaks"],
                        rows=found,
                        numeric=[1],
                        opened=True,
                    )
                ],
            ),
            Section(
                heading="The most similar pairs",
                text=["nearest.parquet has a row for each held-out sequence, hits.parquet one for each similar pair."],
                tables=[
                    Table(
                        title="Nearest pairs",
                        columns=["held out", "train", "identity", "leak", "found by"],
                        rows=worst,
                        numeric=[2],
                        opened=True,
                    )
                ]
                if worst
                else [],
            ),
        ],
        footer=", ".join(made_by),
    )
