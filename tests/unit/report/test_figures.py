import xml.etree.ElementTree as ET

import numpy as np
import pytest

from unirefine.report import figures, style
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
    "losses": lambda: figures.losses(METRICS, dict.fromkeys("abcd", 2.9)),
    "throughput": lambda: figures.throughput(METRICS),
}


@pytest.mark.parametrize("name", SVGS)
def test_a_figure_is_svg_that_follows_the_page(name):
    svg = SVGS[name]()
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
    assert SVGS[name]() == SVGS[name]()


def test_counts_stand_beside_the_bars():
    assert "1,200" in SVGS["removed"]()


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
    svg = SVGS["losses"]()
    assert "font-family: system-ui, sans-serif" in svg
    assert "DejaVu" not in svg
