"""YAML in which a value stays the text that was typed. The types of the options decide what it means.

YAML 1.1 reads `off` as false, `2024_03` as 202403, `12:30` as 750 and `2024-03-01` as a date, whatever the option.
"""

import json
import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

_MERGE = "tag:yaml.org,2002:merge"


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


def parse_yaml(text: str) -> Any:
    """The value of a YAML or JSON text: mappings, lists, text, None; from JSON also numbers and booleans.

    Raises ValueError for a text that is neither, or whose values contain themselves.
    """
    if text.lstrip().startswith("{"):  # JSON may have tabs between words, YAML may not
        try:
            return json.loads(text)
        except ValueError:
            pass
    try:
        value = yaml.load(text, Loader=_Loader)
        json.dumps(value, default=str)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value
