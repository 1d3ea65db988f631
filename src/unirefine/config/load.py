"""Read and validate a config file. A mistake becomes one line that names the key and the nearest valid one."""

import datetime
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from unirefine.config.base import Block
from unirefine.config.data import Cluster, Curate, Decontaminate, Records, Release, Run, Shard, Split, Tools
from unirefine.config.training import Embed, Evaluate, Report, Train
from unirefine.errors import UserError


class Config(Block):
    """The whole config file: one block per stage."""

    run: Run = Run()
    """Name and size of the run."""
    release: Release = Release()
    """Which release, from where."""
    records: Records = Records()
    """From release files to Parquet records."""
    curate: Curate = Curate()
    """Which sequences are removed, and why."""
    cluster: Cluster = Cluster()
    """Which UniRef90 sequences make up a UniRef50 cluster."""
    split: Split = Split()
    """Which clusters validate."""
    decontaminate: Decontaminate = Decontaminate()
    """Train clusters similar to validation are removed; what is left is audited."""
    shard: Shard = Shard()
    """Tokens on disk."""
    train: Train = Train()
    """ESM-2 on Megatron-core."""
    evaluate: Evaluate = Evaluate()
    """Masked perplexity, ours and Hugging Face's."""
    embed: Embed = Embed()
    """Embeddings."""
    report: Report = Report()
    """The HTML report."""
    tools: Tools = Tools()
    """External programs."""


AnyBlock = TypeVar("AnyBlock", bound=BaseModel)
_MOST_VALUES = 100_000
"""In a config; 30,000 purge lists fit."""


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Load a YAML config file, with dotted overrides (`{"split.seed": 3}`) on top.

    Raises UserError with one line for anything wrong with it.
    """
    return parse_config(_with_overrides(_read_yaml(path), overrides or {}), where=str(path))


def parse_config(values: Mapping[str, Any], *, where: str = "config") -> Config:
    """Validate a mapping (what Snakemake calls `config`) as a whole config."""
    return _validate(Config, plain(values, where=where), where)


def load_block(kind: type[AnyBlock], name: str, source: str | None, overrides: Mapping[str, Any]) -> AnyBlock:
    """One stage's block, as its command takes it.

    `source` is a YAML file (its block `name` is used), the block itself as a JSON object, or None for defaults.
    """
    if source is not None and source.lstrip().startswith("{"):
        try:
            values = json.loads(source)
        except (ValueError, RecursionError) as error:
            raise UserError(f"--config is not valid JSON: {error}") from None
        return _validate(kind, _with_overrides(values, overrides), f"--config ({name})", prefix=name)
    if source is None:
        return _validate(kind, _with_overrides({}, overrides), "--set", prefix=name)
    whole = _read_yaml(source)
    parse_config(whole, where=source)  # a typo in another block is an error here too
    return _validate(kind, _with_overrides(whole.get(name) or {}, overrides), source, prefix=name)


def _read_yaml(path: Path | str) -> dict[str, Any]:
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such config file", where=path, fix="config/demo.yaml is one to start from") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not valid YAML: {error}", where=path) from None
    values = parse_yaml(text, where=path)
    if not isinstance(values or {}, dict):
        raise UserError("a config file is a mapping of blocks, as in `split:`", where=path)
    return values or {}


def parse_yaml(text: str, *, where: Path | str) -> Any:
    """The value of a YAML text as JSON has it (see `plain`). Raises UserError when it is not YAML."""
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2024-99-99
        raise UserError(f"not valid YAML: {error}", where=where) from None
    return plain(values, where=where)


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
            return {
                _key(name, key): copied(each, f"{key}.{name}" if key else str(name)) for name, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [copied(each, key) for each in value]
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            return value.isoformat()
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise UserError(f"{key}: YAML reads it as {type(value).__name__}", where=where, fix="put it in quotes")

    def _key(name: Any, parent: str) -> str:
        if isinstance(name, str | int | float):
            return str(name)
        raise UserError(f"{name!r} in {parent or 'the config'} is no name of an option", where=where)

    try:
        return copied(values, "")
    except RecursionError:
        raise UserError("blocks within blocks without end", where=where, fix="do not nest YAML aliases") from None


def _with_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = json.loads(json.dumps(values))
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        block = merged
        for parent in parents:
            block = block.setdefault(parent, {})
            if not isinstance(block, dict):
                raise UserError(f"{parent} in {dotted} is not a block", where="--set")
        block[last] = value
    return merged


def _validate(kind: type[AnyBlock], values: Mapping[str, Any], where: str, prefix: str = "") -> AnyBlock:
    try:
        # JSON mode: lists become tuples, as in YAML; numbers are not taken from strings
        return kind.model_validate_json(json.dumps(values), strict=False)
    except ValidationError as error:
        raise UserError(_explain(kind, error, prefix), where=where) from None


def _explain(kind: type[BaseModel], error: ValidationError, prefix: str) -> str:
    """The first mistake in one line; how many more there are."""
    first, *more = error.errors()
    location = [str(step) for step in first["loc"]]
    key = ".".join(([prefix] if prefix else []) + location)
    if first["type"] == "extra_forbidden":
        valid = _keys(kind, location[:-1])
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
        text = f"unknown key {key!r}; {hint}"
    elif first["type"] == "value_error":
        text = str(first["ctx"]["error"])
    else:
        text = f"{key}: {first['msg']} (got {first['input']!r})"
    return text + (f" (and {len(more)} more)" if more else "")


def _keys(kind: type[BaseModel], location: list[str]) -> list[str]:
    for step in location:
        inner = kind.model_fields[step].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel), inner
        kind = inner
    return list(kind.model_fields)
