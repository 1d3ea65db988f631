"""Maps against numpy's singular value decomposition, and pages whose names come from outside."""

import json
import re
import sys
import types
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.embed import run as stage

HOSTILE = [
    "</script><script>alert(1)</script>",
    "a\"b'c",
    "<!--",
    "sp|P1|\x07BELL",
    "$x_{$",
    "\u202eevil",
    "日本",
    "@@DATA@@",
]
TABLE_ROWS = ["alpha", "beta", "alpha", "", "gamma", "<b>x</b>", "alpha", "beta"]


@pytest.fixture
def job(small_esm2, tmp_path):
    """(words of the command, output)."""
    import pyarrow as pa

    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 30)) for _ in HOSTILE]
    sequences[1] = sequences[0][:-1] + "A"  # one cluster
    pq.write_table(pa.table({"id": HOSTILE, "sequence": sequences}), tmp_path / "in.parquet")
    output = tmp_path / "out"
    words = ["embed", "--model", str(small_esm2[0]), "--parquet", str(tmp_path / "in.parquet"), "--output", str(output)]
    return [*words, "--set", "per_residue=false"], output


class Scripts(HTMLParser):
    """The text of each script element, and whether anything is loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.external, self.tag = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        self.external += [value for name, value in attributes if name in ("src", "href")]
        if tag == "script":
            self.found.append("")

    def handle_data(self, data):
        if self.tag == "script":
            self.found[-1] += data

    def handle_endtag(self, tag):
        self.tag = ""


def page_data(output) -> dict:
    text = (output / "map.html").read_text()
    scripts = Scripts(text)
    assert len(scripts.found) == 2 and not scripts.external and "http" not in re.sub("http-equiv", "", text)
    return json.loads(scripts.found[0])


def test_a_map_has_the_first_two_components_and_names_as_data(job, tmp_path):
    words, output = job
    (tmp_path / "table.tsv").write_text(
        "id\tFamily\n" + "".join(f"{i}\t{v}\n" for i, v in zip(HOSTILE[3:], TABLE_ROWS[3:], strict=True))
    )
    assert main([*words, "--map", "pca", "--colour", f"{tmp_path / 'table.tsv'}:family"]) == 0
    vectors = np.array(pq.read_table(output / "sequences.parquet")["vector"].to_pylist())
    centred = vectors - vectors.mean(axis=0)
    _u, sizes, components = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ components[:2].T
    table = pq.read_table(output / "map.parquet").to_pydict()
    assert table["id"] == HOSTILE and table["colour"] == ["", "", "", *TABLE_ROWS[3:]]
    for axis, name in enumerate("xy"):
        np.testing.assert_allclose(np.abs(table[name]), np.abs(expected[:, axis]), atol=1e-4)
    shares = sizes**2 / (sizes**2).sum()
    data = page_data(output)
    assert data["axes"] == [f"PC {i + 1} ({shares[i]:.1%} of the variance)" for i in (0, 1)]
    np.testing.assert_allclose(data["x"], table["x"], rtol=1e-4)
    assert data["ids"][:3] == HOSTILE[:3] and data["ids"][3] == "sp|P1|\\x07BELL" and data["ids"][5] == "\\u202eevil"
    assert data["labels"] == ["<b>x</b> (1)", "alpha (1)", "beta (1)", "gamma (1)"]
    assert data["values"] == [None, None, None, None, 3, 0, 1, 2]
    assert (output / "map.png").read_bytes().startswith(b"\x89PNG")


def test_vectors_that_are_there_are_used_again(job, monkeypatch, capsys, tmp_path):
    words, output = job
    assert main([*words, "--map", "pca"]) == 0
    before = (output / "sequences.parquet").read_bytes()
    monkeypatch.setattr(stage, "embed_chunk", lambda *_arguments: pytest.fail("computed again"))
    (tmp_path / "n.csv").write_text("id,mass\n" + "".join(f'"{i}",{n}\n' for n, i in enumerate(HOSTILE[4:])))
    assert main([*words, "--map", "pca", "--colour", "clusters:0.5"]) == 0
    assert "all of it was there" in capsys.readouterr().out
    data = page_data(output)
    assert data["colour"] == "cluster at 50% identity" and data["values"][0] == data["values"][1]
    assert data["labels"][0] == f"{data['texts'][0]} (2)" and len(data["labels"]) == 7
    assert (output / "sequences.parquet").read_bytes() == before
    (output / "sequences.parquet").unlink()
    with pytest.raises(BaseException, match="computed again"):
        main([*words, "--map", "pca"])


def test_numbers_make_a_scale():
    from unirefine.embed import colour
    from unirefine.embed import map as maps

    made = colour._coloured("mass", (*map(str, range(13)), "", "NA"))
    assert not made.labels and np.isnan(made.values[13:]).all()
    shades = maps.point_colours(made, 15)
    assert (shades[0], shades[6], shades[12], shades[14]) == (*maps.SCALE[::2], maps.GREY)
    assert len(colour._coloured("n", tuple("0123456789ab")).labels) == 11  # the eleventh: the others together


def test_umap_gets_the_vectors(job, monkeypatch):
    words, output = job
    seen = {}

    class Umap:
        def __init__(self, **options):
            seen.update(options)

        def fit_transform(self, vectors):
            seen["shape"] = vectors.shape
            return vectors[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Umap))
    assert main([*words, "--map", "umap"]) == 0
    assert seen["shape"] == (8, 32) and (seen["n_neighbors"], seen["random_state"]) == (7, 0)
    assert page_data(output)["axes"] == ["UMAP 1", "UMAP 2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--colour", "clusters"], "--colour without --map; add --map pca"),
        (["--map", "pca", "--layers", "1"], "--map with --layers or --include"),
        (["--map", "pca", "--colour", "clusters:7"], "no identity; give one above 0"),
        (["--map", "pca", "--colour", "nothing"], "--colour nothing: no column"),
        (["--map", "pca", "--colour", "{}/t.tsv:x"], "t.tsv: no column 'x'; name them in the first line; it has id, y"),
        (["--map", "pca", "--colour", "{}/t.tsv:y"], "t.tsv: none of its ids is one of the proteins'"),
        (["--map", "pca", "--colour", "{}/u.tsv:y"], "u.tsv:3: a is there twice"),
        (["--map", "umap"], "umap is not installed; pip install 'unirefine[map]'"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_computed(job, tmp_path, capsys, monkeypatch, options, message):
    words, output = job
    (tmp_path / "t.tsv").write_text("id\ty\nother\t1\n")
    (tmp_path / "u.tsv").write_text("id\ty\na\t1\na\t2\n")
    monkeypatch.setattr(stage, "embed_chunk", lambda *_arguments: pytest.fail("computed"))
    monkeypatch.setitem(sys.modules, "umap", None)
    assert main([*words, *(option.format(tmp_path) for option in options)]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
    assert message in line
    assert not list(output.glob("[!.]*"))


def test_a_strangers_file_is_not_replaced(job, capsys):
    words, output = job
    output.mkdir()
    (output / "map.html").write_text("mine")
    assert main([*words, "--map", "pca"]) == 1
    assert "map.html: exists, and was not written by this command" in capsys.readouterr().err
    assert main(words) == 0 and (output / "map.html").read_text() == "mine"
    (output / "map.html").unlink()
    assert main([*words, "--map", "pca"]) == 0
    assert main(words) == 0  # a map of older vectors does not stay
    assert sorted(path.name for path in output.iterdir()) == [".lock", "sequences.parquet"]
