"""The report of a real run in a real browser (Debian's or anybody's Chromium on PATH), and in `snakemake --report`."""

import re
import shutil
import struct
import zipfile

import pytest
from playwright.sync_api import sync_playwright

from unirefine.report.style import standalone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SIZES = {"phone": (390, 844), "desktop": (1440, 900)}
PAPER = {"light": "rgb(253, 253, 252)", "dark": "rgb(22, 24, 27)"}


@pytest.fixture(scope="module")
def report(finished):
    return finished.directory / "results/small/report/report.html"


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium); .ci/run installs it")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two `rgb(...)` colours."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", PAPER)
@pytest.mark.parametrize("size", SIZES)
def test_the_page_reads_well_and_asks_nobody(browser, report, tmp_path, size, scheme):
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    assert requests == [report.as_uri()]
    assert complaints == []

    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    style = "getComputedStyle(document.body)"
    paper, ink = page.evaluate(f"[{style}.backgroundColor, {style}.color]")
    assert paper == PAPER[scheme]
    assert contrast(paper, ink) > 7
    figures = page.query_selector_all("figure")
    assert len(figures) >= 6
    for figure in figures:
        assert figure.query_selector("figcaption").inner_text().strip()
        label = figure.query_selector("svg text")
        assert label.bounding_box()["height"] >= 9, "too small to read"
        assert contrast(paper, label.evaluate("element => getComputedStyle(element).fill")) > 4.5
    for line in page.query_selector_all("#loss svg path[style*='--series']"):
        assert contrast(paper, line.evaluate("element => getComputedStyle(element).stroke")) > 3

    shot = tmp_path / f"{size}-{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    assert struct.unpack(">II", shot.read_bytes()[16:24]) == (width, page.evaluate("document.body.scrollHeight"))
    page.close()


def test_a_table_is_copied_with_tabs(browser, report):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(report.as_uri())
    page.click("button.copy >> nth=0")
    page.wait_for_selector("text=copied")
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].split("\t") == ["model", "perplexity", "95% interval", "ours / it"]
    assert len(lines[1].split("\t")) == 4
    assert float(lines[1].split("\t")[1]) > 1
    context.close()


def test_snakemakes_report_holds_the_same_page_and_figures(finished, report, tmp_path):
    done = finished.snakemake("--report", str(tmp_path / "report.zip"))
    assert done.returncode == 0, done.stdout
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        held = {name.rsplit("/", 1)[1]: archive.read(name) for name in archive.namelist() if "/data/raw/" in name}
    assert held["report.html"] == report.read_bytes()
    figures = {path.name: path.read_bytes() for path in (report.parent / "figures").glob("*.svg")}
    assert {name: held.get(name) for name in figures} == figures
    inline = re.findall(r"<svg.*?</svg>\n?", report.read_text(), re.DOTALL)
    assert sorted(standalone(svg).strip() for svg in inline) == sorted(one.decode().strip() for one in figures.values())
