"""config/README.md: complete, up to date, and its defaults can be pasted."""

import json
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import yaml

from unirefine.config import Config, parse_config, parse_yaml
from unirefine.config.docs import render, schema

README = Path(__file__).parents[3] / "config" / "README.md"
SCHEMA = README.parent / "schema.json"
ROWS = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_the_options_page_is_what_the_models_say():
    assert README.read_text(encoding="utf-8") == render(), "config/README.md has drifted; run `make docs`"


def test_the_schema_is_that_of_the_models():
    assert SCHEMA.read_text(encoding="utf-8") == schema(), "config/schema.json has drifted; run `make docs`"


@pytest.mark.parametrize("path", sorted(README.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_editors_accept_the_shipped_configs_and_refuse_a_typo(path):
    first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first == "# yaml-language-server: $schema=schema.json"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    check = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert not list(check.iter_errors(values))
    assert parse_config(values)
    (mistake,) = check.iter_errors(values | {"run": {"nmae": "x"}})
    assert "'nmae' was unexpected" in mistake.message


def test_every_option_is_explained():
    assert len(ROWS) > 80
    unexplained = [row for row in ROWS if row.rstrip(" |").endswith("`")]
    assert not unexplained


def pasted(name: str, value: str) -> str:
    """An option as a user would paste it into a config file."""
    *blocks, option = name.split(".")
    indented = [f"{'  ' * depth}{key}:" for depth, key in enumerate(blocks)]
    return "\n".join([*indented, f"{'  ' * len(blocks)}{option}: {value}"])


def cells(row: str) -> tuple[str, str, str]:
    """Name, type and default in a row."""
    name, kind, default = row.replace("\\|", "/").split(" | ")[:3]
    return name.split("`")[1], kind, default.strip("`")


@pytest.mark.parametrize("read", [partial(parse_yaml, where="page"), yaml.safe_load])
def test_every_default_pasted_as_yaml_gives_the_default(read):
    """Each row alone and all rows together, read by us and by a caller from Python."""
    together = {}
    for row in ROWS:
        name, _kind, default = cells(row)
        values = read(pasted(name, default))
        assert parse_config(values) == Config(), row
        block = together
        *blocks, _option = name.split(".")
        for key in blocks:
            block, values = block.setdefault(key, {}), values[key]
        block |= values
    assert parse_config(together) == Config()
    assert set(together) == set(Config.model_fields)


NEEDED = {
    "release.source: archive": {"release": {"name": "2024_03"}},
    "release.source: fasta": {"release": {"fasta": "lab.fasta"}},
    **{
        f"release.source: {source}": {"release": {"dataset": "data"}, "split": {"method": "given"}}
        for source in ("parquet", "bionemo")
    },
    "split.method: ids": {"split": {"ids": "ids.txt"}},
    "split.method: given": {"release": {"source": "fasta", "fasta": "lab.fasta", "sides": "sides.tsv"}},
    "train.model.preset: null": {"train": {"model": {"layers": 2, "hidden": 64, "heads": 2}}},
}
"""Other options that a value needs."""


@pytest.mark.parametrize("read", [partial(parse_yaml, where="page"), yaml.safe_load])
def test_every_value_that_the_page_lists_can_be_pasted_without_quotes(read):
    listed = 0
    for row in ROWS:
        name, kind, _default = cells(row)
        if not kind.startswith(("'", "1, ", "0, ")):
            continue
        for value in kind.replace(" / ", ", ").split(", "):
            word = value.strip("'")
            values = read(pasted(name, word))
            for block, options in NEEDED.get(f"{name}: {word}", {}).items():
                values.setdefault(block, {})
                for key, other in options.items():
                    values[block][key] = values[block].get(key, {}) | other if isinstance(other, dict) else other
            if ".audit." in name or ".search." in name:  # the audit must see what the search sees
                *_, option = name.split(".")
                values["decontaminate"] |= {part: {option: word} for part in ("search", "audit")}
            found = parse_config(values)
            for step in name.split("."):
                found = getattr(found, step)
            assert str(found) == {"null": "None"}.get(word, word), row
            listed += 1
    assert listed > 50
