"""The report as one HTML file that opens offline, and its figures as files of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from unirefine.files.atomic import write_text
from unirefine.files.written import delete_stale
from unirefine.report.style import standalone


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. `numeric`: indices of right-aligned columns; `total`: the last row is what the others leave."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()
    total: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its file name (no suffix) and a caption that says what to see."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with text, then tables, then figures."""

    heading: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = field(default_factory=tuple)

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
        "title": title,
        "summary": summary,
        "tiles": tiles,
        "sections": sections,
        "footer": footer,
    }
    text = resources.files("unirefine.report").joinpath("template.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    return template.render(values) + "\n"
