"""The report of a real run, in a real browser (a Chromium on PATH) and in `snakemake --report`."""

import io
import json
import re
import shutil
import zipfile

import lxml.html
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from unirefine.report.style import standalone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SIZES = {"phone": (390, 844), "desktop": (1440, 900)}
PAPER = {"light": (253, 253, 252), "dark": (22, 24, 27)}
FIGURES = {"loss", "throughput", "removed-uniref50", "removed-uniref90", "identity", "lengths", "cluster-sizes"}

# Boxes of all texts in a figure, as [text, left, top, right, bottom], and that of the figure itself, in the same order;
# and the size of its smallest letters on the screen.
BOXES = """figure => {
  const svg = figure.querySelector("svg"), scale = svg.clientWidth / svg.viewBox.baseVal.width;
  const box = element => { const at = element.getBoundingClientRect(); return [at.left, at.top, at.right, at.bottom]; };
  const texts = [...figure.querySelectorAll("svg text")].filter(text => text.textContent.trim());
  const sizes = texts.map(text => parseFloat(getComputedStyle(text).fontSize) * scale);
  return {frame: box(svg), texts: texts.map(text => [text.textContent.trim(), ...box(text)]), size: Math.min(...sizes)};
}"""


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


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Directory of the screenshots. pytest keeps its last three temporary directories."""
    return tmp_path_factory.mktemp("screenshots")


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two `rgb(...)` colours."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def pixels(png: bytes) -> np.ndarray:
    """A screenshot as int[height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def ink(image: np.ndarray, paper: tuple[int, int, int]) -> float:
    """Share of the pixels that are clearly not paper."""
    return float((np.abs(image - paper).max(-1) > 40).mean())


def overlapping(boxes: list[list]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel in both directions."""
    return [
        (first[0], second[0])
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
        if min(first[3], second[3]) - max(first[1], second[1]) > 1
        and min(first[4], second[4]) - max(first[2], second[2]) > 1
    ]


@pytest.mark.parametrize("scheme", PAPER)
@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_readable_and_requests_nothing(browser, report, shots, size, scheme):
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    shot = shots / f"{size}-{scheme}.png"
    whole = pixels(page.screenshot(path=shot, full_page=True))
    print(f"the page: {report}\nas the browser shows it: {shot}")  # pytest shows it with a failure
    assert requests == [report.as_uri()]
    assert complaints == []

    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    assert whole.shape[1] == width
    assert {tuple(whole[y, x]) for y in (0, -1) for x in (0, -1)} == {PAPER[scheme]}
    assert 0.02 < ink(whole[:height], PAPER[scheme]) < 0.3, "title, tiles and the first table"
    style = "getComputedStyle(document.body)"
    paper, text = page.evaluate(f"[{style}.backgroundColor, {style}.color]")
    assert contrast(paper, text) > 7

    figures = {figure.get_attribute("id"): figure for figure in page.query_selector_all("figure")}
    assert set(figures) == FIGURES
    for name, figure in figures.items():
        assert figure.query_selector("figcaption").inner_text().strip()
        found = figure.evaluate(BOXES)
        left, top, right, bottom = found["frame"]
        assert len(found["texts"]) >= 6, name
        assert 9 <= found["size"] <= 20, f"{name}: letters of {found['size']} px"
        for word, *box in found["texts"]:
            assert box[0] >= left - 1 and box[2] <= right + 1, f"{name}: {word} is cut off"
            assert box[1] >= top - 1 and box[3] <= bottom + 1, f"{name}: {word} is cut off"
        assert overlapping(found["texts"]) == [], name
        for label in figure.query_selector_all("svg text"):
            assert contrast(paper, label.evaluate("element => getComputedStyle(element).fill")) > 4.5
        drawn = pixels(figure.query_selector(".wide").screenshot(path=shots / f"{size}-{scheme}-{name}.png"))
        assert 0.01 < ink(drawn, PAPER[scheme]) < 0.5, f"{name} is empty or one block"
    lines = page.query_selector_all("figure svg path[style*='stroke: var(--series']")
    assert len(lines) >= 8
    for line in lines:
        assert contrast(paper, line.evaluate("element => getComputedStyle(element).stroke")) > 3
    page.close()


@pytest.mark.parametrize("refused", [False, True])
def test_every_table_is_copied_with_tabs_even_without_access_to_the_clipboard(browser, report, refused):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    if refused:
        context.add_init_script("Clipboard.prototype.writeText = async () => { throw new DOMException('no'); };")
    page = context.new_page()
    page.goto(report.as_uri())
    tables = lxml.html.parse(str(report)).xpath("//table")
    buttons = page.query_selector_all("button.copy")
    assert len(buttons) == len(tables) > 8
    for button, table in zip(buttons, tables, strict=True):
        button.click()
        page.wait_for_function("button => button.textContent == 'copied'", arg=button)
        cells = [[cell.text_content() for cell in row.xpath("./th|./td")] for row in table.xpath(".//tr")]
        lines = page.evaluate("navigator.clipboard.readText()").split("\n")
        assert [line.split("\t") for line in lines] == cells
    context.close()


def test_a_table_that_cannot_be_copied_is_selected(browser, report):
    page = browser.new_page()
    page.add_init_script("delete Navigator.prototype.clipboard; document.execCommand = () => false;")
    page.goto(report.as_uri())
    page.click("button.copy >> nth=0")
    page.wait_for_selector("text=press Ctrl+C")
    assert page.evaluate("getSelection().toString()").startswith("model")
    page.close()


def test_the_report_shows_the_lineage(finished, report):
    found = json.loads((finished.directory / "results/small/train/final/lineage.json").read_text())
    page = lxml.html.parse(str(report))

    def rows(anchor):
        table = page.xpath(f"//h2[@id='{anchor}']/following::table")[0]
        return [[cell.text_content() for cell in row.xpath("./td")] for row in table.xpath("./tbody/tr")]

    steps = rows("lineage")
    assert [row[0] for row in steps] == [one["stage"] for one in found["steps"]]
    for row, one in zip(steps, found["steps"], strict=True):
        assert one["source"]["commit"] is None or one["source"]["commit"][:10] in row[1]
        assert one["versions"]["unirefine"] in row[1]
        assert one["config_sha256"].startswith(row[2])
        assert all(f"{tool} {version}" in row[3] for tool, version in one["tools"].items())
    assert any("mmseqs" in row[3] for row in steps)
    files = [[file["file"], file["md5"], file["url"]] for file in found["release"]["files"]]
    assert [[row[0], row[2], row[3]] for row in rows("release")] == files


def test_what_was_removed_adds_up_in_the_tables(report):
    page = lxml.html.parse(str(report))
    tables = page.xpath("//h2[@id='what-was-removed-and-why']/following::table")[:2]
    assert len(tables) == 2
    for table in tables:
        counts = [int(cell.text.replace(",", "")) for cell in table.xpath("./tbody/tr/td[3]")]
        assert counts[0] == sum(counts[1:])
        assert table.xpath("./tbody/tr[last()]/@class") == ["total"]


def test_snakemakes_report_has_the_same_page_figures_and_captions(finished, report, tmp_path):
    done = finished.snakemake("--report", str(tmp_path / "report.zip"))
    assert done.returncode == 0, done.stdout
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        held = {name.rsplit("/", 1)[1]: archive.read(name) for name in archive.namelist() if "/data/raw/" in name}
        (index,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("report.html")
                    and "/data/" not in name)  # fmt: skip
    assert held["report.html"] == report.read_bytes()
    figures = {path.name: path.read_bytes() for path in (report.parent / "figures").glob("*.svg")}
    assert {name: held.get(name) for name in figures} == figures
    inline = re.findall(r"<svg.*?</svg>\n?", report.read_text(), re.DOTALL)
    assert sorted(standalone(svg).strip() for svg in inline) == sorted(one.decode().strip() for one in figures.values())

    shown, _ = json.JSONDecoder().raw_decode(index.split('<script id="results">')[1].split("var results = ", 1)[1])
    theirs = {one["name"].removesuffix(".svg"): words(one["caption"]) for one in shown.values()}
    ours = {
        figure.get("id"): figure.find("figcaption").text_content().split()
        for figure in lxml.html.parse(str(report)).xpath("//figure")
    }
    assert {name: theirs[name] for name in ours} == ours


def words(html: str) -> list[str]:
    """The words of a caption, without its markup."""
    return lxml.html.fromstring(f"<div>{html}</div>").text_content().split()
