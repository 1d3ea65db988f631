"""What continuing a training did to a model, out of `continued` of perplexity.json."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ["set", "clusters", "before", "95% interval", "after", "95% interval", "after / before"]


def continued_rows(evaluation: Mapping[str, Any], kind: str = "hidden") -> list[list[str]]:
    """Rows of COLUMNS, one for each validation set. kind: `hidden` residues or `all` chosen ones."""
    rows = []
    for row in evaluation.get("continued", {}).get("sets", []):
        cells = [cell for when in ("before", "after") for cell in _cells(row[kind][when])]
        rows.append([row["set"], f"{row['clusters']:,}", *cells, _ratio(row[kind]) or "-"])
    return rows


def continued_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """One line with the perplexities of hidden residues of each set before and after; none where nothing continued."""
    found = evaluation.get("continued")
    if not found:
        return []
    texts = []
    for row in found["sets"]:
        measured = row["hidden"]
        pair = [
            f"{' '.join(_cells(measured[when], brackets=True))} {when}"
            for when in ("before", "after")
            if measured[when]
        ]
        ratio = _ratio(measured)
        verdict = f", {_verdict(row['set'], measured)}, ratio {ratio}" if ratio else ""
        texts.append(f"{row['set']} {', '.join(pair)}{verdict}")
    origin = f"continued from {found['before']}, " if found["before"] else ""
    return [f"{origin}perplexity of hidden residues: {'; '.join(texts)}"]


def _verdict(name: str, measured: Mapping[str, Any]) -> str:
    low, high = measured["ratio_interval"]
    if high < 1:
        return "better"
    if low > 1:
        return "worse" if name == "validation" else "worse (forgetting)"
    return "no clear change"


def _cells(measured: Mapping[str, Any] | None, *, brackets: bool = False) -> list[str]:
    if measured is None or measured["perplexity"] is None:
        return ["-", "-"][: 1 if brackets else 2]
    low, high = measured["interval"]
    interval = f"{low:.2f} to {high:.2f}"
    return [f"{measured['perplexity']:.3f}", f"({interval})" if brackets else interval]


def _ratio(measured: Mapping[str, Any]) -> str:
    if measured.get("ratio") is None or measured.get("ratio_interval") is None:
        return ""
    low, high = measured["ratio_interval"]
    return f"{measured['ratio']:.3f} ({low:.3f} to {high:.3f})"
