"""config/README.md: complete, up to date, and its defaults can be pasted."""

from pathlib import Path

import yaml

from unirefine.config import Config, parse_config
from unirefine.config.docs import render

README = Path(__file__).parents[3] / "config" / "README.md"
ROWS = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_the_options_page_is_what_the_models_say():
    assert README.read_text(encoding="utf-8") == render(), "config/README.md has drifted; run `make docs`"


def test_every_option_is_explained():
    assert len(ROWS) > 80
    unexplained = [row for row in ROWS if row.rstrip(" |").endswith("`")]
    assert not unexplained


def test_every_default_pasted_as_yaml_gives_the_default():
    """Each row alone, as a user would paste it, and all rows together."""
    together = {}
    for row in ROWS:
        name, value = row.split("`")[1], row.replace("\\|", "").split(" | `", 1)[1].split("` |")[0]
        *blocks, option = name.split(".")
        indented = [f"{'  ' * depth}{key}:" for depth, key in enumerate(blocks)]
        pasted = yaml.safe_load("\n".join([*indented, f"{'  ' * len(blocks)}{option}: {value}"]))
        assert parse_config(pasted) == Config(), row
        block = together
        for key in blocks:
            block, pasted = block.setdefault(key, {}), pasted[key]
        block |= pasted
    assert parse_config(together) == Config()
    assert set(together) == set(Config.model_fields)
