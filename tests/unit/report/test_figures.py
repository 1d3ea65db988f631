import functools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from unirefine.report import diagrams, figures, style
from unirefine.report.diagrams import Flow
from unirefine.report.figures import Estimate
from unirefine.report.gather import LENGTH_EDGES, column_counts, size_edges

METRICS = [
    {"step": step, "loss": 3 - step / 100, "tokens_per_second": 900 + step, "padded_tokens_per_second": 1000 + step}
    | ({"validation_loss": 2.9 - step / 100, "validation_hidden_loss": 3 - step / 100} if step % 20 == 0 else {})
    for step in range(10, 101, 10)
]
SVGS = {
    "removed": lambda: figures.removed(
        [("curate", "artificial_taxon", 3), ("decontaminate", "similar", 1200)], "clusters"
    ),
    "nothing removed": lambda: figures.removed([], "clusters"),
    "histogram": lambda: figures.histogram(
        np.arange(5.0), {"a": np.array([1, 2, 3, 4])}, "x", "y", log_x=False, log_y=False, mark=2.0
    ),
    "losses": lambda: figures.losses(METRICS),
    "hidden": lambda: figures.hidden_perplexity(METRICS, dict.fromkeys("abcd", 2.9)),
    "two losses": lambda: figures.two_losses({"a": METRICS, "b</title>": METRICS[:1]}),
    "throughput": lambda: figures.throughput(METRICS),
    "estimates": lambda: figures.estimates([Estimate("ours", 9.5, [9, 10], 70), Estimate("<b>&", 12, None)]),
    "breakdown": lambda: figures.breakdown(
        ["1-9", "10"],
        {"ours": [Estimate("1-9, ours", 7, [6, 8], 3), None], "b": [None, Estimate("10, b", 9, None)]},
        "x",
    ),
    "long breakdown": lambda: figures.breakdown(["other eukaryotes"], {"ours": [Estimate("o", 7, [6, 8])]}, "x"),
    "shares": lambda: figures.shares(["A", "C"], {"input": [0.25, 0.75], "train": [0.5, 0.5]}, "residues"),
    "flow": lambda: diagrams.flow([Flow("curate", 10, 7, 3), Flow("shard", 7, 5, 0, 2)], "sequences"),
    "flow of nothing": lambda: diagrams.flow([Flow("curate", 0, 0, 0)], "sequences"),
    "workflow": lambda: diagrams.workflow({"train": "1m44s"}),
}


DRAWN = {name: functools.cache(draw) for name, draw in SVGS.items()}


def titles(svg: str) -> list[str]:
    """What the pointer shows, and first what a screen reader says."""
    return [one.text for one in ET.fromstring(svg).iter() if one.tag.endswith("title")]


@pytest.mark.parametrize("name", SVGS)
def test_a_figure_says_what_it_is(name):
    root = ET.fromstring(DRAWN[name]())
    assert root.attrib["role"] == "img"
    assert root[0].tag.endswith("title") and root[0].text == root.attrib["aria-label"] != ""
    assert not any(one.attrib.get("id") for one in root.iter() if one.tag.endswith("}g"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("removed", ["artificial taxon  (curate): 3 clusters", "similar  (decontaminate): 1,200 clusters"]),
        ("histogram", ["0 to 1: 1 a", "1 to 2: 2 a", "2 to 3: 3 a", "3 to 4: 4 a"]),
        ("losses", ["step 10, training, as logged: 2.9000", "step 100, validation: 1.9000"]),
        ("hidden", ["step 100, validation, hidden residues: 7.389", "a: 18.174"]),
        ("throughput", ["step 20, with padding: 1,020"]),
        ("estimates", ["ours: 9.50 (9.00 to 10.00), 70 residues", "<b>&: 12.00 (no interval)"]),
        ("breakdown", ["1-9, ours: 7.00 (6.00 to 8.00), 3 residues", "10, b: 9.00 (no interval)"]),
        ("shares", ["C, input: 75.00%"]),
        ("flow", ["curate: 3 sequences removed", "shard: 2 sequences held out"]),
        ("workflow", ["train  1m44s"]),
    ],
)
def test_the_pointer_shows_values(name, shown):
    assert set(shown) <= set(titles(DRAWN[name]()))


def test_a_flow_is_drawn_to_scale():
    boxes = [one.attrib for one in ET.fromstring(DRAWN["flow"]()).iter() if one.tag.endswith("rect")]
    kept, removed, left, held_out = (float(box["width"]) for box in boxes)
    assert kept / removed == pytest.approx(7 / 3, rel=1e-3)
    assert kept == pytest.approx(left + held_out, rel=1e-3)


def test_many_points_are_thinned_and_the_legend_says_so():
    many = [{"step": step, "loss": 3.0} for step in range(1, 1001)]
    svg = figures.losses(many)
    assert sum(title.startswith("step ") for title in titles(svg)) == 334
    assert "training, as logged (1 in 3)" in svg


def test_packed_training_has_one_line_of_tokens():
    packed = [line | {"padded_tokens_per_second": line["tokens_per_second"]} for line in METRICS]
    assert "with padding" not in figures.throughput(packed) and "with padding" in figures.throughput(METRICS)


@pytest.mark.parametrize("name", SVGS)
def test_a_figure_is_svg_that_follows_the_page(name):
    svg = DRAWN[name]()
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "width" not in root.attrib, "a fixed width would not fit a phone"
    assert root.attrib["viewBox"]
    assert "var(--ink)" in svg
    for placeholder in (style.INK, style.FAINT, *style.SERIES):
        assert placeholder not in svg
    assert "#ffffff" not in svg, "a white box would glare in dark mode"
    assert "var(" not in style.standalone(svg)


@pytest.mark.parametrize("name", SVGS)
def test_the_same_figure_has_the_same_bytes(name):
    assert SVGS[name]() == DRAWN[name]()


def test_counts_stand_beside_the_bars():
    assert "1,200" in DRAWN["removed"]()


def test_smoothing_keeps_a_line_a_line():
    line = np.linspace(0, 5, 40)
    assert np.allclose(figures._smooth(line), line)


def test_a_streamed_histogram_counts_everything(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.random.default_rng(0).integers(1, 60_000, 5000).astype(np.int32)
    pq.write_table(pa.table({"length": values}), tmp_path / "t.parquet", row_group_size=700)
    counts = column_counts(tmp_path / "t.parquet", "length", LENGTH_EDGES)
    assert counts.sum() == len(values)
    middle = np.histogram(values, LENGTH_EDGES)[0]
    assert np.array_equal(counts[1:-1], middle[1:-1])


@pytest.mark.parametrize("largest", [1, 10, 11, 25, 5000])
def test_every_cluster_size_has_a_bin(largest):
    edges = size_edges(largest)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] < 1
    assert edges[-1] > largest


def test_text_takes_the_readers_font():
    svg = DRAWN["losses"]()
    assert "font-family: system-ui, sans-serif" in svg
    assert "DejaVu" not in svg
