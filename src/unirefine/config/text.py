"""YAML in which a value stays the text that was typed. The types of the options decide what it means.

YAML 1.1 reads `off` as false, `2024_03` as 202403, `12:30` as 750 and `2024-03-01` as a date, whatever the option.
"""

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from unirefine.errors import UserError

_MERGE = "tag:yaml.org,2002:merge"
_MOST_VALUES = 100_000
"""In a config; 30,000 purge lists fit."""


class _Loader(yaml.SafeLoader):
    """Makes text of every scalar but null. A key that comes twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _value in node.value:
            if key.id == "scalar" and key.tag != _MERGE:
                first = lines.setdefault(key.value, key.start_mark.line)
                if first != key.start_mark.line:
                    what = f"{key.value} is there already, in line {first + 1}"
                    raise ConstructorError(problem=what, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_MERGE, re.compile(r"<<$"), ["<"])


def parse_yaml(text: str, *, where: Path | str) -> Any:
    """The value of a YAML or JSON text: mappings, lists, text, None; from JSON also numbers and booleans.

    Raises UserError for a text that is neither, and as `plain` does.
    """
    if text.lstrip().startswith("{"):  # JSON may have tabs between words, YAML may not
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"not valid YAML: {line}{error.problem or error.context}", where=where) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an explicit tag, as in `!!int x`
        raise UserError(f"not valid YAML: {error}", where=where) from None
    return plain(value, where=where)


def plain(values: Any, *, where: Path | str) -> Any:
    """A value as JSON has it: a date becomes the text that was written, a tuple a list.

    Raises UserError for what JSON has no word for, and for more than _MOST_VALUES values, as aliases of aliases make.
    """
    count = 0

    def copied(value: Any, key: str) -> Any:
        nonlocal count
        count += 1
        if count > _MOST_VALUES:
            raise UserError(f"more than {_MOST_VALUES:,} values", where=where, fix="do not nest YAML aliases")
        if isinstance(value, Mapping):
            return {_name(name, key): copied(each, f"{key}.{name}".lstrip(".")) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [copied(each, key) for each in value]
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            return value.isoformat()
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise UserError(f"{key}: YAML reads it as {type(value).__name__}", where=where, fix="put it in quotes")

    def _name(name: Any, parent: str) -> str:
        if isinstance(name, str | int | float):
            return str(name)
        raise UserError(f"{name!r} in {parent or 'the config'} is no name of an option", where=where)

    try:
        return copied(values, "")
    except RecursionError:
        raise UserError("blocks within blocks without end", where=where, fix="do not nest YAML aliases") from None
