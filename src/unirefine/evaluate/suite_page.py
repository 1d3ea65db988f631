"""suite.json as Markdown and as a page."""

from collections.abc import Mapping
from typing import Any

from unirefine.core import markdown as md
from unirefine.report.page import Section, Table, render_page

MARK = "unirefine evaluate suite"
RANGES = ("short", "medium", "long")

Rows = list[list[str]]


def tables(result: Mapping[str, Any]) -> list[tuple[str, list[str], Rows, list[str]]]:
    """(heading, columns, rows, sentences) of each table: all in one first, then each part in full."""
    data, models, plain = result["data"], result["models"], result["without_model"]
    every = [*models, {"model": "no model", **plain}]
    columns, cells = ["model", "parameters"], [[one["model"], _count(one.get("parameters"))] for one in every]
    found: list[tuple[str, list[str], Rows, list[str]]] = []

    def add(name: str, values: list[str]) -> None:
        columns.append(name)
        for row, value in zip(cells, values, strict=True):
            row.append(value)

    if data["perplexity"]:
        add("masked perplexity", [_between(one.get("perplexity"), "perplexity", 2) for one in every])
        add("ratio to the first", [_between(one.get("perplexity"), "ratio", 3) for one in every])
    if data["contacts"]:
        values = [one["contacts"]["precision"] if one["contacts"] else None for one in every]
        for label in ("L", "L/5"):
            add(f"contacts, long, P@{label}", [_number(v["long"][label]) if v else "no head" for v in values])
        labels = [f"{name} P@{label}" for name in RANGES for label in ("L/5", "L/2", "L")]
        rows = [
            [
                one["model"],
                *([_number(v[name][label]) for name in RANGES for label in v[name]] if v else ["no head"] * 9),
            ]
            for one, v in zip(every, values, strict=True)
        ]
        seen = [f"{one['model']}: its head was fitted on {', '.join(one['contacts']['fitted_on'])}, so its precision "
                "flatters." for one in models if one["contacts"] and one["contacts"]["fitted_on"]]  # fmt: skip
        text = [
            f"Means over {len(data['contacts'])} proteins; without a model: the pairs nearest in the sequence.",
            *seen,
        ]
        found.append(("Contacts", ["model", *labels], rows, text))
    if data["variants"]:
        best = [_best(one["variants"]) for one in every]
        add("variants, Spearman", [_between(score, "spearman", 3, "interval") for _name, score in best])
        rows = [
            [one["model"], name.replace("_", " "), _between(score, "spearman", 3, "interval"), f"{score['variants']:,}"]
            for one in every
            for name, score in one["variants"].items()
        ]
        text = ["The large table has the masked marginal (of indels the pseudo-log-likelihood per residue), BLOSUM62 "
                "without a model."]  # fmt: skip
        found.append(("Variants", ["model", "score", "Spearman", "variants"], rows, text))
    for task in data["probes"]:
        add(f"{task['name']}, {task['measure']}", [_between(one["probes"][task["name"]], "value", 3, "interval")
                                                 for one in every])  # fmt: skip
    add("residues/s" if _on_gpu(result) else "residues/processor s", [_rate(one) for one in every])
    add("peak memory, MB", [f"{one['peak_bytes'] / 1e6:,.0f}" if "path" in one else "" for one in every])
    return [("Models", columns, cells, _notes(result)), *found]


def _notes(result: Mapping[str, Any]) -> list[str]:
    data = result["data"]
    found = []
    if data["perplexity"]:
        found.append(
            f"Masked perplexity: where the residue is hidden, over {data['perplexity']['sequences']:,} validation "
            "sequences, lower is better. A ratio is that of the first model's perplexity to the row's, on the same "
            "residues: the first is better where the interval is below 1."
        )
    found += [
        f"{task['name']}: a linear model on frozen means over residues; {task['train']:,} rows of train, "
        f"{task['test']:,} of test ({task['split']}); without a model: composition and length."
        for task in data["probes"]
    ]
    timed = data["timed"]
    found.append(
        f"Speed: vectors of {timed['proteins']} proteins, {timed['residues']:,} residues, in {result['precision']} on "
        f"{result['device']}, all by transformers, the fastest "
        "of three passes and, in brackets, the slowest; where these are far apart, other work disturbed them. "
        "Peak memory: of the whole process on a CPU, of tensors on a GPU."
    )
    return [*found, "Intervals are 95%, in square brackets."]


def _rate(row: Mapping[str, Any]) -> str:
    if "path" not in row:
        return ""
    return f"{row['residues_per_second']:,.0f} ({row['slowest_pass']:,.0f})"


def _on_gpu(result: Mapping[str, Any]) -> bool:
    return result["device"].startswith("cuda")


def markdown(result: Mapping[str, Any]) -> str:
    """suite.md."""
    parts = [f"<!-- {MARK} -->"]
    for heading, columns, rows, text in tables(result):
        parts += [f"## {heading}", md.table(columns, [[_plain(cell) for cell in row] for row in rows]), *text]
    return "\n\n".join(parts) + "\n"


def page(result: Mapping[str, Any]) -> str:
    """suite.html."""
    sections = [
        Section(
            heading=heading,
            text=text,
            tables=[Table(title=heading, columns=columns, rows=rows, numeric=range(1, len(columns)))],
        )
        for heading, columns, rows, text in tables(result)
    ]
    versions = ", ".join(f"{name} {one}" for name, one in result["versions"].items())
    tiles = [(f"{len(result['models'])}", "models")]
    return render_page(
        title="Models compared",
        summary="Each model on the same data, beside what needs no model.",
        tiles=tiles,
        sections=sections,
        footer=f"{MARK}; {versions}",
    )


def _plain(cell: str) -> str:
    """A cell that cannot end its column or begin markup."""
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _best(scores: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The score of the large table."""
    for name in ("masked_marginal", "pseudo_log_likelihood_per_residue", "blosum62"):
        if name in scores and scores[name]["spearman"] is not None:
            return name, scores[name]
    return next(iter(scores.items()))


def _between(found: Mapping[str, Any] | None, key: str, digits: int, interval: str | None = None) -> str:
    """A value with its interval, as in `17.52 [17.40, 17.61]`."""
    if not found or found.get(key) is None:
        return "-"
    low_high = found.get(interval or ("interval" if key == "perplexity" else f"{key}_interval"))
    text = f"{found[key]:.{digits}f}"
    return f"{text} [{low_high[0]:.{digits}f}, {low_high[1]:.{digits}f}]" if low_high else text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:,.1f}M"
