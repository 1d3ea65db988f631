"""The report as one HTML file that opens offline, and its figures as files of their own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from unirefine.files.atomic import write_text
from unirefine.files.written import delete_stale
from unirefine.report.style import standalone


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. `numeric`: indices of right-aligned columns; `total`: the last row is what the others leave.

    It is folded on the page unless `opened`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()
    total: bool = False
    opened: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its file name (no suffix) and a caption that says what to see."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with text, then figures, then tables."""

    heading: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = field(default_factory=tuple)
    search: Mapping[str, Any] | None = None
    """What the search by id looks through (`report.search`)."""

    @property
    def anchor(self) -> str:
        """Fragment of the section's link."""
        return "-".join(self.heading.lower().split())


def write_report(
    directory: Path,
    *,
    title: str,
    summary: str,
    tiles: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    footer: str,
) -> Path:
    """Write `figures/<name>.svg`, then `report.html`; returns the latter's path."""
    pictures = [picture for section in sections for picture in section.figures]
    for picture in pictures:
        write_text(directory / "figures" / f"{picture.name}.svg", standalone(picture.svg))
    delete_stale(directory, "report", ["report.html", *(f"figures/{picture.name}.svg" for picture in pictures)])
    path = directory / "report.html"
    write_text(path, render_page(title=title, summary=summary, tiles=tiles, sections=sections, footer=footer))
    return path


def render_page(
    *, title: str, summary: str, tiles: Sequence[tuple[str, str]], sections: Sequence[Section], footer: str
) -> str:
    """The page as HTML. tiles: (value, what it is)."""
    values: Mapping[str, Any] = {
        "title": _printable(title),
        "summary": summary,
        "tiles": tiles,
        "sections": sections,
        "footer": footer,
        "style": Markup(_text("page.css")),
        "script": Markup(_text("page.js")),
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    environment.filters["embedded"] = embedded
    return environment.from_string(_text("template.html")).render(values) + "\n"


def embedded(value: Any) -> Markup:
    """A value as JSON inside `<script type="application/json">`, which no text in it can end."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _text(name: str) -> str:
    return resources.files("unirefine.report").joinpath(name).read_text(encoding="utf-8")


def _printable(value: Any) -> Any:
    """Text in which what cannot be printed, such as a character that turns the direction of writing, is escaped."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in value)
