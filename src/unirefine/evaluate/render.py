"""Results as lines of text."""

from typing import Any

SHOWN = 8
"""Rows that are listed."""


def lines(result: dict[str, Any]) -> list[str]:
    """perplexity.json: the table, the model card's table (Markdown) and, if computed, the pseudo-perplexities."""
    width = max(28, *(len(row["model"]) for row in result["table"]))
    shown = [
        f"masked perplexity of {result['sequences']:,} validation sequences, {result['masked']:,} masked residues",
        f"{'model':<{width}} {'perplexity':>10}  {'95% interval':<17} {'model 1 / this':<24} {'seconds':>7}",
    ]
    for row in result["table"]:
        text = f"{row['model']:<{width}} {row['perplexity']:>10.4f}"
        low, high = row["interval"]
        ratio = ""
        if "ratio" in row:
            ratio = f"{row['ratio']:.4f} ({row['ratio_interval'][0]:.4f}-{row['ratio_interval'][1]:.4f})"
        shown.append(f"{text}  {f'{low:.4f}-{high:.4f}':<17} {ratio:<24} {row['seconds']:>7.1f}")
    shown += [
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
    for row in result["pseudo_perplexity"]:
        shown.append(
            f"pseudo-perplexity of {row['model']}: {row['perplexity']:.4f} over {row['residues']:,} residues "
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
        if row["measured"] > 1:
            values = ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in row["spearman"].items())
            shown.append(f"{row['id']}: Spearman over {row['measured']:,} measured variants: {values}")
    return shown


def contact_lines(result: dict[str, Any]) -> list[str]:
    """contacts.json: mean precision by separation."""
    shown = [f"note: {row['name']}: {note}" for row in result["proteins"] for note in row["notes"]]
    shown.append(f"precision of contacts, mean over {len(result['proteins'])} proteins")
    for name, values in result["mean"].items():
        shown.append(f"{name:<8}" + "".join(f"  P@{label} {_number(value)}" for label, value in values.items()))
    return shown


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
