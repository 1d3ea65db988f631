from html.parser import HTMLParser

import pytest

from unirefine.report.page import Picture, Section, Table, write_report

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
