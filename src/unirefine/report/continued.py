"""The report's section on a model that was continued from another: before and after, by validation set."""

from collections.abc import Mapping
from typing import Any

from unirefine.core.continued import COLUMNS, continued_lines, continued_rows
from unirefine.report import figures
from unirefine.report.figures import Estimate
from unirefine.report.page import Section, Table
from unirefine.report.perplexity import picture

_TITLES = {"hidden": "Perplexity of hidden residues", "all": "Perplexity of all chosen residues"}


def continued_sections(evaluation: Mapping[str, Any]) -> list[Section]:
    """The section; none for a model that was not continued. evaluation: perplexity.json."""
    if not (found := evaluation.get("continued")):
        return []
    tables = [
        Table(
            title=title, columns=COLUMNS, rows=continued_rows(evaluation, kind),
            numeric=range(1, len(COLUMNS)), opened=kind == "hidden",
        )
        for kind, title in _TITLES.items()
    ]  # fmt: skip
    rows = [
        Estimate(f"{row['set']}, {when}", measured["perplexity"], measured["interval"], row["hidden"]["residues"])
        for row in found["sets"]
        for when in ("before", "after")
        if (measured := row["hidden"][when]) and measured["perplexity"] is not None
    ]
    text = [
        *(f"{line[0].upper()}{line[1:]}." for line in continued_lines(evaluation)),
        "`validation` are the held-out clusters of this run. A further set says what the model has forgotten: its ratio"
        " is above 1 where it has become worse. Before and after are compared at the same residues; the interval of the"
        " ratio is of that comparison, and far more precise than those of each alone.",
    ]
    pictures = [picture("continued", figures.estimates(rows))] if rows else []
    return [Section(heading="Before and after", text=text, tables=tables, figures=pictures)]
