"""config/README.md and config/schema.json, generated from the models: `python -m unirefine.config.docs --write`."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from unirefine.config.load import Config
from unirefine.files.atomic import write_text

HEAD = """# Every option

Generated from `src/unirefine/config/` by `make docs`; a test fails when it drifts. Unknown keys are errors. A file
needs only what differs from the defaults; `demo.yaml`, `uniref-2024_03.yaml`, `uniref-current.yaml`,
`nvidia-2024_03.yaml`, `fasta.yaml` and `model-card.yaml` beside this page are complete examples; `config.yaml` is what
snakedeploy begins with. `--set` of every command takes the same names, whole (`train.steps=3`) or without the block
(`steps=3`). `unirefine init` writes a file to start from. An editor that reads `schema.json`, which the first line of
each file names, completes and checks the options.
"""


def render() -> str:
    """The whole page as Markdown."""
    lines = [HEAD]
    for name, field in Config.model_fields.items():
        lines += [
            f"## {name}",
            "",
            field.description or "",
            "",
            "| option | type | default | meaning |",
            "|---|---|---|---|",
        ]
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        lines += [_row(*entry) for entry in _options(field.annotation, name, field.default)]
        lines.append("")
    return "\n".join(lines)


def schema() -> str:
    """The JSON Schema of a config file, which editors read: the header of the files in config/ names it."""
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(made | {"title": "A config file of unirefine"}, indent=1, ensure_ascii=False) + "\n"


def _options(block: type[BaseModel], prefix: str, default: BaseModel) -> list[tuple[str, FieldInfo, Any]]:
    entries: list[tuple[str, FieldInfo, Any]] = []
    for name, field in block.model_fields.items():
        inner, value = field.annotation, getattr(default, name)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            entries += _options(inner, f"{prefix}.{name}", value)
        else:
            entries.append((f"{prefix}.{name}", field, value))
    return entries


def _row(name: str, field: FieldInfo, default: Any) -> str:
    meaning = " ".join((field.description or "").split())
    return f"| `{name}` | {_type(field)} | `{_yaml(default)}` | {_cell(meaning)} |"


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"unirefine\.[\w.]*\.", "", text)  # of a block within a list
    text = text.replace("typing.", "").replace("Literal", "").replace("NoneType", "null").replace("None", "null")
    text = text.strip("[]") if text.startswith("[") and text.endswith("]") else _bare(text)
    if text.startswith("Optional["):
        text = f"{text.removeprefix('Optional[').removesuffix(']').strip('[]')} | null"
    if text.startswith("Union["):  # of a literal and others
        text = text.removeprefix("Union[").removesuffix("]").replace("['", "'").replace("']", "'").replace(", ", " | ")
    return _cell(text)


def _bare(text: str) -> str:
    """Drop validation details (`Annotated[int, Ge(ge=1)]` -> `int`): the meaning states the bounds that matter."""
    while "Annotated[" in text:
        start = text.index("Annotated[")
        depth, stop = 0, start
        for stop in range(start + len("Annotated"), len(text)):
            depth += {"[": 1, "]": -1}.get(text[stop], 0)
            if depth == 0:
                break
        inner = text[start + len("Annotated[") : stop].split(",", 1)[0]
        text = text[:start] + inner + text[stop + 1 :]
    return text


def _yaml(value: Any) -> str:
    """A default as YAML that can be pasted. Strings are quoted where YAML takes the bare word for something else."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, str) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Print the page, or write it and the schema into the checkout with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write config/README.md and config/schema.json")
    arguments = parser.parse_args()
    if arguments.write:
        write_text(Path("config/README.md"), render())
        write_text(Path("config/schema.json"), schema())
    else:
        print(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
