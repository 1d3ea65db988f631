import json
from html.parser import HTMLParser

import lxml.html
import pytest

from unirefine.report.page import Picture, Section, Table, write_report
from unirefine.report.style import labelled

SVG = '<svg viewBox="0 0 1 1"><path style="fill: var(--ink)"/></svg>'


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside = []

    def handle_starttag(self, tag, attributes):
        self.outside += [value for name, value in attributes if name in ("src", "href") and not value.startswith("#")]


@pytest.fixture
def report(tmp_path):
    section = Section(
        heading="What was removed",
        text=["20 in = 19 kept + 1 removed."],
        tables=[
            Table(
                title="Reasons",
                columns=["reason", "count"],
                rows=[["<synthetic>", "1"], ["kept", "19"]],
                numeric=[1],
                total=True,
            )
        ],
        figures=[Picture(name="removed", svg=SVG, caption="What to see.")],
    )
    return write_report(
        tmp_path, title="A & B", summary="Summary.", tiles=[("20", "in")], sections=[section], footer="x 1"
    )


def test_figures_of_an_earlier_report_go_and_others_stay(report):
    for name in ("identity-test", "mine"):
        (report.parent / f"figures/{name}.svg").write_text(SVG)
    write_report(report.parent, title="A", summary="", tiles=[], sections=[], footer="")
    assert {path.name for path in (report.parent / "figures").iterdir()} == {"removed.svg", "mine.svg"}


def test_the_page_opens_offline(report):
    links = Links()
    links.feed(report.read_text(encoding="utf-8"))
    assert links.outside == []


def test_text_is_escaped_and_figures_are_not(report):
    text = report.read_text(encoding="utf-8")
    assert "A &amp; B" in text
    assert "&lt;synthetic&gt;" in text
    assert SVG in text


def test_each_figure_is_a_file_of_its_own(report):
    figure = (report.parent / "figures" / "removed.svg").read_text(encoding="utf-8")
    assert figure.startswith("<?xml")
    assert "var(" not in figure


HOSTILE = "</script><script>alert(1)</script> \"quoted\" & \u202egnp.exe\x07 'x'"


def test_names_of_others_are_text_everywhere(tmp_path):
    search = {"ids": {HOSTILE: [-1, "curate", HOSTILE]}, "example": HOSTILE, "covers": HOSTILE, "results": HOSTILE}
    section = Section(
        heading=HOSTILE,
        text=[HOSTILE],
        tables=[Table(title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]])],
        figures=[Picture(name="loss", svg=labelled(SVG, HOSTILE), caption=HOSTILE)],
        search=search,
    )
    tiles = [(HOSTILE, HOSTILE)]
    path = write_report(tmp_path, title=HOSTILE, summary=HOSTILE, tiles=tiles, sections=[section], footer=HOSTILE)
    text = path.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "\u202e" not in text and "\x07" not in text
    page = lxml.html.fromstring(text)
    scripts = page.xpath("//script")
    assert [one.get("type") for one in scripts] == ["application/json", None]
    assert json.loads(scripts[0].text) == search
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\x07", "\\x07")
    assert page.xpath("//h2")[0].text == page.xpath("//td")[0].text == page.xpath("//figcaption")[0].text == shown
    assert page.xpath("//title")[0].text == shown
    assert page.xpath("//input")[0].get("placeholder") == shown


def test_contents_lead_to_sections_and_tables_are_folded(report):
    page = lxml.html.parse(str(report))
    assert page.xpath("//nav//a/@href") == [f"#{one}" for one in page.xpath("//h2/@id")]
    assert page.xpath("//details[@class='table']/@open") == []
    assert page.xpath("count(//details[@class='table']//button[@class='csv'])") == 1
    order = [one.tag for one in page.xpath("//main//figure | //main//table")]
    assert order == ["figure", "table"]
