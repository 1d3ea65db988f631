"""The report's sections on perplexity: the table, its breakdowns, the easiest and the hardest proteins."""

from collections.abc import Mapping
from typing import Any

from unirefine.core import summaries
from unirefine.core.summaries import beaten_text, chosen_text
from unirefine.report import figures
from unirefine.report.captions import captions
from unirefine.report.figures import Estimate
from unirefine.report.page import Picture, Section, Table
from unirefine.report.proteins import Proteins

KINDS = ("hidden", "kept", "random")
"""Of chosen positions, by what the model sees there."""
MOST_SERIES = 4
"""Models in a figure."""
_AXES = {"length": "length (residues)", "identity": "identity to train", "cluster_size": "members of the cluster",
         "residue": "residue"}  # fmt: skip


def is_second_engine(key: str) -> bool:
    """Whether a row is Hugging Face's of a checkpoint: evaluate fails where it is not the same as ours."""
    return key.split(" ")[-1] == "huggingface"


def one_engine(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """perplexity.json without the rows of the second engine."""
    return {**evaluation, "table": [row for row in evaluation["table"] if not is_second_engine(row["key"])]}


def best_baseline(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of the baseline with the lowest perplexity of hidden residues; None without one."""
    rows = [row for row in evaluation["table"] if "perplexity" not in row and row["hidden"]["perplexity"] is not None]
    return min(rows, key=lambda row: row["hidden"]["perplexity"], default=None)


def evaluation_section(evaluation: Mapping[str, Any]) -> Section:
    """The perplexities, and whether both engines agree. evaluation: perplexity.json."""
    shown = one_engine(evaluation)
    tables = [perplexity_table(evaluation), kinds_table(shown)]
    if len(evaluation["parity"]) > 1 or any(row["published"] is not None for row in evaluation["parity"]):
        tables.append(card_table(evaluation))
    rows = [
        Estimate(row["model"], row["hidden"]["perplexity"], row["hidden"]["interval"], row["hidden"].get("residues"))
        for row in shown["table"]
        if row["hidden"]["perplexity"] is not None
    ]
    text = [
        beaten_text(evaluation),
        *parity_lines(evaluation),
        chosen_text(evaluation),
        "The mask is a fixed function of seed, sequence and position, so every row is about the same residues. "
        "Intervals: 95%, over resampled clusters.",
    ]
    pictures = [picture("perplexity", figures.estimates(rows))] if rows else []
    return Section(heading="Perplexity", text=text, tables=tables, figures=pictures)


def parity_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """Whether Megatron-core and Hugging Face agree on each checkpoint, as sentences."""
    lines = []
    for row in evaluation["parity"]:
        if row["difference"] is None:
            lines.append(f"{row['model']} was evaluated on Megatron-core alone, so no second engine confirms it.")
            continue
        largest = row["largest_nll_difference"]
        lines.append(
            f"Parity of {row['model']}: passed. Hugging Face's EsmForMaskedLM differs from Megatron-core by "
            f"{abs(row['difference']):.1e} in perplexity (tolerance {row['tolerance']:g}), and by at most "
            f"{largest['nats']:.1e} nats at a residue ({largest['residue']} of {largest['id']})."
        )
    return lines


def breakdown_section(evaluation: Mapping[str, Any], proteins: Proteins | None) -> Section:
    """Perplexity of hidden residues by properties of the protein. proteins: None where they were not written."""
    shown = one_engine(evaluation)
    baseline = best_baseline(shown)
    columns = {row["key"]: row["model"] for row in shown["table"]}
    models = [row["key"] for row in shown["table"] if "perplexity" in row][: MOST_SERIES - 1]
    drawn = [*models, *([baseline["key"]] if baseline else [])]
    pictures, tables, text = [], [], []
    axes: dict[str, list[Mapping[str, Any]]] = dict(evaluation["breakdowns"])
    if proteins is not None and proteins.by_taxon:
        axes["taxon"] = proteins.by_taxon
    for name, rows in axes.items():
        if not rows:
            continue
        svg = figures.breakdown(
            [row["bin"] for row in rows],
            {columns[key]: [_estimate(row, key, columns[key]) for row in rows] for key in drawn},
            _AXES.get(name, name),
        )
        pictures.append(picture(f"by-{name.replace('_', '-')}", svg))
        tables.append(_breakdown_table(name.replace("_", " "), rows, columns))
    if proteins is None:
        text.append("evaluate/proteins.parquet is not there, so no protein is named: run the evaluate stage again.")
    else:
        text.append(proteins.text)
        tables += proteins.tables(models[0], baseline["key"] if baseline else None, columns)
    for one in evaluation.get("benchmarks", []):
        names = {key: columns[key] for key in one["perplexity"] if key in columns}
        title = f"{one['name']}: perplexity of hidden residues by identity of the nearest train sequence"
        tables.append(_breakdown_table("identity", one["identity"], names, title))
    return Section(heading="Where it is good, and where not", text=text, tables=tables, figures=pictures)


def _estimate(row: Mapping[str, Any], key: str, label: str) -> Estimate | None:
    if row.get(key) is None:
        return None
    return Estimate(f"{row['bin']}, {label}", row[key], (row.get("intervals") or {}).get(key), row["residues"])


def _breakdown_table(
    group: str, rows: list[Mapping[str, Any]], columns: Mapping[str, str], title: str | None = None
) -> Table:
    """A row per bin: residues, and each model with its interval."""
    counted = any("sequences" in row for row in rows)
    body = []
    for row in rows:
        cells = [row["bin"], *([f"{row['sequences']:,}"] if counted else []), f"{row['residues']:,}"]
        for key in columns:
            interval = (row.get("intervals") or {}).get(key)
            cells += [f"{row[key]:.2f}", f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "-"]
        body.append(cells)
    heads = [head for name in columns.values() for head in (name, "95% interval")]
    names = [group, *(["proteins"] if counted else []), "hidden", *heads]
    title = title or f"Perplexity of hidden residues by {group}"
    return Table(title=title, columns=names, rows=body, numeric=range(1, len(names)))


def perplexity_table(evaluation: Mapping[str, Any]) -> Table:
    """Model, both perplexities with their intervals, and the ratio of ours to it; of one engine."""
    rows, columns = summaries.perplexity_rows(one_engine(evaluation)), summaries.PERPLEXITY_COLUMNS
    return Table(title="Masked perplexity", columns=columns, rows=rows, numeric=range(1, len(columns)), opened=True)


def kinds_table(evaluation: Mapping[str, Any]) -> Table:
    """Perplexity of each model by what stands at the position that it predicts."""
    rows = [
        [row["model"], *(cell for kind in KINDS for cell in summaries.perplexity_cells(row[kind]))]
        for row in evaluation["table"]
        if "perplexity" in row
    ]
    columns = ["model", *(name for kind in KINDS for name in (f"{kind} ({evaluation[kind]:,})", "95% interval"))]
    title = "By what the model sees at the position"
    return Table(title=title, columns=columns, rows=rows, numeric=range(1, len(columns)))


def card_table(evaluation: Mapping[str, Any]) -> Table:
    """The table of a model card: each checkpoint by both engines, beside the published value of its size."""
    rows = []
    for row in evaluation["parity"]:
        values = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("huggingface", "ours", "published")]
        rows.append([row["model"], *values, "" if row["difference"] is None else f"{row['difference']:+.1e}"])
    columns = ["checkpoint", "Hugging Face", "ours", "Lin et al.", "difference"]
    return Table(title="Both engines and the published value", columns=columns, rows=rows, numeric=[1, 2, 3, 4])


def picture(name: str, svg: str, release: Mapping[str, Any] | None = None) -> Picture:
    """A figure with its caption. release: release.json, where the caption names what is counted."""
    return Picture(name=name, svg=svg, caption=captions(release or {})[name])
