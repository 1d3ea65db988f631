"""The report of a real run, in a real browser (a Chromium on PATH) and in `snakemake --report`."""

import csv
import io
import json
import re
import shutil
import zipfile

import lxml.html
import numpy as np
import pytest
from PIL import Image

from unirefine.config import Report
from unirefine.core.summaries import tool_text
from unirefine.core.tables import open_parquet
from unirefine.dataset.reader import IndexedFiles
from unirefine.errors import UserError
from unirefine.report import run as stage
from unirefine.report.style import standalone
from unirefine.trace.follow import follow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SIZES = {"phone": (390, 844), "desktop": (1440, 900)}
PAPER = {"light": (253, 253, 252), "dark": (22, 24, 27)}
FIGURES = {
    "perplexity", "by-length", "by-identity", "by-cluster-size", "by-residue", "by-taxon", "loss",
    "hidden-perplexity", "throughput",
    "flow-uniref50", "flow-uniref90", "removed-uniref50", "removed-uniref90", "identity", "lengths", "amino-acids",
    "taxa", "cluster-sizes", "workflow",
}  # fmt: skip

# Boxes of all texts in a figure, as [text, left, top, right, bottom], that of the figure itself in the same order, and
# that of its part which a phone shows without scrolling; the size of its smallest letters on the screen; their colours.
BOXES = """figure => {
  const svg = figure.querySelector("svg"), scale = svg.clientWidth / svg.viewBox.baseVal.width;
  const box = element => { const at = element.getBoundingClientRect(); return [at.left, at.top, at.right, at.bottom]; };
  const texts = [...figure.querySelectorAll("svg text")].filter(text => text.textContent.trim());
  const sizes = texts.map(text => parseFloat(getComputedStyle(text).fontSize) * scale);
  const fills = texts.map(text => getComputedStyle(text).fill), shown = box(figure.querySelector(".wide"));
  return {frame: box(svg), shown, texts: texts.map(text => [text.textContent.trim(), ...box(text)]),
          size: Math.min(...sizes), fills: [...new Set(fills)]};
}"""
STROKES = """[...document.querySelectorAll("figure svg path[style*='stroke: var(--series']")].map(
  line => getComputedStyle(line).stroke)"""


@pytest.fixture(scope="module")
def report(finished):
    return finished.directory / "results/small/report/report.html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

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
        assert len(found["texts"]) >= 5, name
        assert 9 <= found["size"] <= 20, f"{name}: letters of {found['size']} px"
        for word, *box in found["texts"]:
            assert box[0] >= left - 1 and box[2] <= right + 1, f"{name}: {word} is cut off"
            assert box[1] >= top - 1 and box[3] <= bottom + 1, f"{name}: {word} is cut off"
        assert overlapping(found["texts"]) == [], name
        assert all(contrast(paper, fill) > 4.5 for fill in found["fills"]), name
        left, top, right, bottom = map(round, found["shown"])
        drawn = whole[top:bottom, left:right]
        assert 0.01 < ink(drawn, PAPER[scheme]) < 0.5, f"{name} is empty or one block"
    lines = page.evaluate(STROKES)
    assert len(lines) >= 8
    assert all(contrast(paper, line) > 3 for line in lines)
    page.close()


@pytest.mark.parametrize("refused", [False, True])
def test_every_table_is_copied_with_tabs_even_without_access_to_the_clipboard(browser, report, refused):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    if refused:
        context.add_init_script("Clipboard.prototype.writeText = async () => { throw new DOMException('no'); };")
    page = context.new_page()
    page.goto(report.as_uri())
    tables = lxml.html.parse(str(report)).xpath("//table")
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
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


def test_a_table_is_sorted_and_saved(browser, report, tmp_path):
    page = browser.new_page(accept_downloads=True)
    page.goto(report.as_uri())
    table = page.locator("details.table", has_text="UniRef90 sequences").first
    table.evaluate("one => { one.open = true; }")
    head = table.locator("th", has_text="count")
    for order in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        counts = [int(cell.replace(",", "")) for cell in table.locator("tbody td:nth-child(3)").all_inner_texts()]
        assert counts[:-1] == sorted(counts[:-1], reverse=order == "descending"), "the total stays below"
    table.locator("td").nth(1).evaluate("cell => { cell.textContent = '=1+\"a\",b'; }")
    with page.expect_download() as saved:
        table.locator("button.csv").click()
    rows = list(csv.reader(io.StringIO(saved.value.path().read_text(), newline="")))
    assert saved.value.suggested_filename == "uniref90-sequences.csv"
    assert rows[1][1] == '\'=1+"a",b' and [int(row[2]) for row in rows[1:]] == counts
    page.close()


def test_the_search_answers_as_trace_does(browser, finished, report):
    results = finished.directory / "results/small"
    page = browser.new_page()
    page.goto(report.as_uri())

    def answer(name: str) -> list[list[str]]:
        page.fill("#id", name)
        page.click(".search button")
        return [line.split(maxsplit=1) for line in page.inner_text(".answer").splitlines() if line]

    ids = [open_parquet(results / f"shard/{side}.ids.parquet", "shard").read() for side in
           ("train-000-of-002", "validation")]  # fmt: skip
    names = [ids[0]["id"][3].as_py(), ids[0]["cluster_id"][3].as_py(), ids[1]["id"][0].as_py()]
    removed = [open_parquet(results / f"{one}/removed.parquet", one).read()["id"].to_pylist() for one in
               ("curate", "cluster", "decontaminate")]  # fmt: skip
    names += [found[0] for found in removed if found]
    assert len(names) > 3
    for name in names:
        theirs = dict(follow(results, name, lambda prefix, row: IndexedFiles([prefix]).offset(row)))
        ours = dict(answer(name)[1:-1])
        last = list(theirs)[-1]
        assert list(ours)[-1] == last, name
        assert theirs[last].startswith(ours[last]) or ours[last] in theirs[last], name
        assert theirs.get("split", "train").split(",")[0] == ours.get("split", "train")
    assert answer("nobody's")[-1] == ["unirefine", "trace 'nobody'\\''s' --results 'results/small'"]
    page.close()


def test_printing_unfolds_the_tables_and_leaves_out_what_cannot_be_pressed(browser, report):
    page = browser.new_page()
    page.goto(report.as_uri())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not any(page.locator(one).first.is_visible() for one in ("nav", ".bar", ".search"))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.table:not([open])").count() > 8
    page.close()


def test_a_second_run_stands_beside_the_first(finished, tmp_path):
    results = finished.directory / "results/small"
    with pytest.raises(UserError, match="the same run twice"):
        stage.run(results, tmp_path / "out", Report(), compare=results)
    with pytest.raises(UserError, match=r"no evaluate/perplexity\.json in it"):
        stage.run(results, tmp_path / "out", Report(), compare=tmp_path)
    other = tmp_path / "other"
    shutil.copytree(results, other, ignore=shutil.ignore_patterns("records", "release", "checkpoints"))
    page = lxml.html.parse(str(stage.run(results, tmp_path / "out", Report(), compare=other)))
    (heading,) = page.xpath("//h2[@id='beside-other']")
    rows = [
        [cell.text for cell in row.xpath("./td")] for row in heading.xpath("following::table")[0].xpath(".//tbody/tr")
    ]
    assert rows[3][0] == "parameters" and all(row[1] == row[2] for row in rows)
    assert heading.getnext().text == "Both were evaluated on the same sequences with the same masks."
    assert page.xpath("//figure[@id='two-losses']")


def test_the_cards_code_loads_the_model(finished, monkeypatch, capsys):
    results = finished.directory / "results/small"
    code = re.search(r"```python\n(.*?)```", (results / "cards/model/README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(results / "train/final/huggingface")
    exec(code, {})
    assert re.fullmatch(r"\S+ 0\.\d+ torch\.Size\(\[32\]\)\n", capsys.readouterr().out)


def test_the_report_shows_the_lineage(finished, report):
    found = json.loads((finished.directory / "results/small/train/final/lineage.json").read_text())
    page = lxml.html.parse(str(report))

    def rows(anchor):
        table = page.xpath(f"//h2[@id='{anchor}']/following::table")[0]
        return [[cell.text_content() for cell in row.xpath("./td")] for row in table.xpath("./tbody/tr")]

    steps = rows("lineage")
    levels = iter(("records, UniRef50", "records, UniRef90"))
    expected = [next(levels) if one["stage"] == "records" else one["stage"] for one in found["steps"]]
    assert [row[0] for row in steps] == expected
    for row, one in zip(steps, found["steps"], strict=True):
        assert one["source"]["commit"] is None or one["source"]["commit"][:10] in row[1]
        assert one["versions"]["unirefine"] in row[1]
        assert one["config_sha256"].startswith(row[2])
        assert all(tool_text(tool, version) in row[3] for tool, version in one["tools"].items())
    assert any("MMseqs2 " in row[3] for row in steps)
    files = [[file["file"], file["md5"], file["url"]] for file in found["release"]["files"]]
    assert [[row[0], row[2], row[3]] for row in rows("release")] == files


def test_what_was_removed_adds_up_in_the_tables(report):
    page = lxml.html.parse(str(report))
    tables = page.xpath("//h2[@id='what-was-removed-and-why']/following::table")[:2]
    assert not page.xpath("//figure[starts-with(@id, 'removed')]//*[contains(text(), 'cluster member')]")
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
