from pathlib import Path

from unirefine.config.docs import render

README = Path(__file__).parents[3] / "config" / "README.md"


def test_the_options_page_is_what_the_models_say():
    assert README.read_text(encoding="utf-8") == render(), "config/README.md has drifted; run `make docs`"


def test_every_option_is_explained():
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    unexplained = [row for row in rows if row.rstrip(" |").endswith("`")]
    assert not unexplained
