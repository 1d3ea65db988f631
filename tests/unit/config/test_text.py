"""Values as people type them, read as the option means them."""

import pytest
import yaml

from unirefine.config import Config, load_config, parse_config, parse_yaml
from unirefine.errors import UserError

TYPED = [
    ("train: {fp8: off}", "train.fp8", "off"),
    ("train: {fp8: 'off'}", "train.fp8", "off"),
    ("train: {packed: on}", "train.packed", True),
    ("train: {packed: Yes}", "train.packed", True),
    ("train: {packed: no}", "train.packed", False),
    ("train: {packed: true}", "train.packed", True),
    ("train: {init: null}", "train.init", None),
    ("train: {init: ~}", "train.init", None),
    ("train: {init: }", "train.init", None),
    ("train: {init: 'null'}", "train.init", "null"),
    ("train: {init: nullable}", "train.init", "nullable"),
    ("train: {optimizer: {lr: 1e-3}}", "train.optimizer.lr", 0.001),
    ("train: {optimizer: {eps: 1.E-9}}", "train.optimizer.eps", 1e-9),
    ("train: {optimizer: {betas: [.9, 0.95]}}", "train.optimizer.betas", (0.9, 0.95)),
    ("train: {steps: 500_000}", "train.steps", 500_000),
    ("train: {steps: +7}", "train.steps", 7),
    ("curate: {artificial_taxa: [81077, 32630]}", "curate.artificial_taxa", (81077, 32630)),
    ("curate: {artificial_members: none}", "curate.artificial_members", "none"),
    ("decontaminate: {search: {alignment_mode: 2}}", "decontaminate.search.alignment_mode", 2),
    ("release: {name: 2024_03}", "release.name", "2024_03"),
    ("release: {name: '2024_03'}", "release.name", "2024_03"),
    ("report: {title: 2024-03-01}", "report.title", "2024-03-01"),
    ("report: {title: 2024-03-01T12:30:00Z}", "report.title", "2024-03-01T12:30:00Z"),
    ("report: {title: 12:30}", "report.title", "12:30"),
    ("report: {title: 1.10}", "report.title", "1.10"),
    ("report: {title: no}", "report.title", "no"),
    ("run: {name: 007}", "run.name", "007"),
    ("run: {name: 1e3}", "run.name", "1e3"),
    ("evaluate: {published: {650M: 6.95, 8M: 1e1}}", "evaluate.published", {"650M": 6.95, "8M": 10.0}),
    ('{"train": {"fp8": "off",\n\t"steps": 7}}', "train.steps", 7),
    ("base: &base {steps: 7}\ntrain: {<<: *base}", "train.steps", 7),
]
YAML_1_1 = ("train: {fp8: off}", "release: {name: 2024_03}", "report: {title: 2024-03-01}", "train: {packed: no}")


def option(config, name):
    value = config
    for step in name.split("."):
        value = getattr(value, step)
    return value


@pytest.mark.parametrize(("text", "name", "value"), TYPED)
def test_a_value_is_what_was_typed(tmp_path, text, name, value):
    if text.startswith("base"):
        assert parse_yaml(text, where="c.yaml")["train"] == {"steps": "7"}
        return
    (tmp_path / "c.yaml").write_text(text)
    found = option(load_config(tmp_path / "c.yaml"), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", YAML_1_1)
def test_what_yaml_1_1_makes_of_it_is_understood_too(text):
    """For callers from Python, who read YAML themselves."""
    assert parse_config(yaml.safe_load(text)) == parse_config(parse_yaml(text, where="c.yaml"))


def test_a_number_is_text_where_the_option_is():
    assert parse_config({"report": {"title": 7}}).report.title == "7"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {steps: 1}\nrun: {name: a}\ntrain: {steps: 2}\n", "line 3: train is there already, in line 1"),
        ("train:\n  steps: 1\n  steps: 2\n", "line 3: steps is there already, in line 2"),
        ("train: [", "line 1: expected the node content"),
        ("train: {a: 1\nb: {", "line 2"),
        ("train: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("train: &a [*a]", "blocks within blocks without end"),
        ("[" * 5000, "not valid YAML"),
        ("train: !!binary aGVsbG8=", "train: YAML reads it as bytes; put it in quotes"),
        ("train: {null: 3}", "None in train is no name of an option"),
        ("train: {? [a, b] : 3}", "not valid YAML"),
        ("train: !!int x", "not valid YAML"),
        (
            "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'lol'] * 9)}]\n" for i in range(9)),
            "more than 100,000 values; do not nest YAML aliases",
        ),
        ("train: \x00", "special characters are not allowed"),
    ],
)
def test_what_cannot_be_read_says_where(text, says):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, where="c.yaml")
    assert caught.value.line().startswith("c.yaml: ")
    assert says in caught.value.line()


def test_no_option_is_infinite_or_not_a_number(tmp_path):
    for value in ("inf", "nan", ".inf"):
        (tmp_path / "c.yaml").write_text(f"release: {{stall_seconds: {value}}}")
        with pytest.raises(UserError, match=r"release\.stall_seconds"):
            load_config(tmp_path / "c.yaml")
    assert Config() == load_config(_written(tmp_path, ""))


def _written(directory, text):
    (directory / "c.yaml").write_text(text)
    return directory / "c.yaml"
