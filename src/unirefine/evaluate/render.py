"""Results as lines of text."""

from typing import Any

from unirefine.core.summaries import (
    PERPLEXITY_COLUMNS,
    aligned,
    beaten_text,
    chosen_text,
    perplexity_cells,
    perplexity_rows,
)

SHOWN = 8
"""Rows that are listed."""


def lines(result: dict[str, Any]) -> list[str]:
    """perplexity.json: the table, the model card's table (Markdown) and, if computed, the pseudo-perplexities."""
    seconds = [f"{row['seconds']:.1f}" for row in result["table"]]
    rows = [[*row, took] for row, took in zip(perplexity_rows(result), seconds, strict=True)]
    shown = [
        *aligned([*PERPLEXITY_COLUMNS, "seconds"], rows),
        chosen_text(result),
        beaten_text(result),
        "",
        "| checkpoint | Hugging Face | ours | Lin et al. | difference |",
        "|---|---|---|---|---|",
        *(
            f"| {row['model']} | {_number(row['huggingface'])} | {_number(row['ours'])} "
            f"| {'-' if row['published'] is None else row['published']} "
            f"| {'-' if row['difference'] is None else format(row['difference'], '+.1e')} |"
            for row in result["parity"]
        ),
        "",
    ]
    for row in result["parity"]:
        if largest := row.get("largest_nll_difference"):
            shown.append(
                f"{row['model']}: the engines differ by at most {largest['nats']:.1e} nats at a residue "
                f"({largest['residue']} of {largest['id']})"
            )
    for row in result["pseudo_perplexity"]:
        value, interval = perplexity_cells(row)
        shown.append(
            f"pseudo-perplexity of {row['model']}: {value} ({interval}) over {row['residues']:,} residues "
            f"of {row['sequences']} sequences"
        )
    return shown


def variant_lines(result: dict[str, Any]) -> list[str]:
    """variants.json: the number of scored variants, and the correlations with measured values."""
    shown = [f"scored {result['variants']:,} variants of {len(result['proteins'])} proteins"]
    if unscored := result["unscored"]:
        shown.append(f"{len(unscored):,} not scored, all in variants.json:")
        for row in unscored[:SHOWN]:
            line = f"line {row['line']}, " if row["line"] else ""
            shown.append(f"  {line}{row['mutant']}: {row['reason']}")
    if result["measured_column"]:
        shown.append(f"measured values: column {result['measured_column']}")
    shown += [f"note: {note}" for note in result["notes"]]
    for row in result["proteins"]:
        if "nearest_train" in row:
            shown.append(f"{row['id']}: {nearest_text(row)}")
        if row["measured"] > 1:
            intervals = row["spearman_interval"]
            values = ", ".join(_correlation(name, value, intervals[name]) for name, value in row["spearman"].items())
            shown.append(f"{row['id']}: Spearman over {row['measured']:,} measured variants: {values}")
            plain = [
                _correlation(name, found["spearman"], found["interval"])
                for name, found in row["without_model"].items()
                if found["spearman"] is not None
            ]
            if plain:
                shown.append(f"{row['id']}: the same without a model: {', '.join(plain)}")
    return shown


def nearest_text(row: dict[str, Any]) -> str:
    """What is nearest to a wild type in train. row: with what `benchmarks.nearest_train` found."""
    if row["nearest_train"] is None:
        return "not among the proteins of decontaminate.against, so its nearest train sequence is not known"
    if row["nearest_identity"] is None:
        return "no train sequence aligns"
    return f"the nearest train sequence has {row['nearest_identity']:.1%} identity"


def contact_lines(result: dict[str, Any]) -> list[str]:
    """contacts.json: mean precision by separation, beside what needs no model."""
    shown = [f"note: {row['name']}: {note}" for row in result["proteins"] for note in row["notes"]]
    shown.append(f"precision of contacts, mean over {len(result['proteins'])} proteins")
    for name, values in result["mean"].items():
        precision = "".join(f"  P@{label} {_number(value)}" for label, value in values.items())
        nearest = ", ".join(f"P@{label} {_number(value)}" for label, value in result["mean_nearest"][name].items())
        chance = _number(result["mean_chance"][name])
        shown.append(f"{name:<8}{precision}  (any pair {chance}; nearest pairs first {nearest})")
    return shown


def _correlation(name: str, value: float | None, interval: list[float] | None) -> str:
    text = f"{name.replace('_', ' ')} {_number(value)}"
    return text if interval is None else f"{text} ({interval[0]:.3f} to {interval[1]:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
