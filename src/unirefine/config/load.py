"""Read and validate a config file. A mistake becomes one line that names the key and the nearest valid one."""

import contextlib
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator

from unirefine.config.base import Block
from unirefine.config.data import Cluster, Curate, Decontaminate, Records, Shard, Split, Tools
from unirefine.config.evaluation import Embed, Evaluate, Report
from unirefine.config.finetune import Finetune
from unirefine.config.release import Release, Run
from unirefine.config.text import parse_yaml, plain
from unirefine.config.training import Train
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
    finetune: Finetune = Finetune()
    """`unirefine finetune`, a command of its own."""
    report: Report = Report()
    """The HTML report."""
    tools: Tools = Tools()
    """External programs."""

    @model_validator(mode="after")
    def _complete(self) -> "Config":
        """Raises ValueError for a split that the source does not have, and for one that it has and nobody chose."""
        release, split = self.release, self.split
        if split.method == "given" and not release.has_split:
            raise ValueError(
                "split.method is 'given', but the source has no split; set release.validation_fasta or release.sides,"
                " or take a data set (docs/data-sets.md)"
            )
        if release.has_split and "method" not in split.model_fields_set:
            raise ValueError("the source has a split: set split.method: given to take it, or hash to make another one")
        if split.method == "given" and release.test_fasta is not None and not split.given_test:
            raise ValueError("release.test_fasta is a test side; set split.given_test: true")
        return self


AnyBlock = TypeVar("AnyBlock", bound=BaseModel)


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Load a config file, with dotted overrides (`{"split.seed": 3}`) on top.

    Raises UserError with one line for anything wrong with it.
    """
    values, overrides = read_config(path), plain(overrides or {}, where="--set")
    return _validate_both(Config, values, _with_overrides(values, overrides), str(path), "--set")


def parse_config(values: Mapping[str, Any], *, where: str = "config") -> Config:
    """Validate a mapping as a whole config."""
    return _validate(Config, plain(values, where=where), where)


def merge_configs(files: Sequence[Path | str], given: Mapping[str, Any]) -> Config:
    """The config of several files, each over the one before, and of what Snakemake's `--config` gives.

    given: by block; values are text. Raises UserError, also for a file that is missing.
    """
    given = plain(given, where="--config")
    values: dict[str, Any] = {}
    for file in files:
        values = _merged(values, read_config(file))
    where = str(files[-1]) if files else "config"
    return _validate_both(Config, values, _merged(values, _with_nulls(given)), where, "--config")


def load_block(kind: type[AnyBlock], name: str, source: str | None, overrides: Mapping[str, Any]) -> AnyBlock:
    """One stage's block, as its command takes it.

    `source` is a config file (its block `name` is used), the block itself as a JSON object, or None for defaults.
    overrides: by option, as in `steps` or `train.steps`.
    """
    overrides = {_option_of(name, key): value for key, value in plain(overrides, where="--set").items()}
    if source is not None and not source.lstrip().startswith("{"):
        # the whole file: a typo in another block is an error here too
        whole = read_config(source)
        changed = _with_overrides(whole, {f"{name}.{key}": value for key, value in overrides.items()})
        return getattr(_validate_both(Config, whole, changed, source, "--set"), name)
    try:
        values = json.loads(source or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"--config is not valid JSON: {error}") from None
    return _validate_both(kind, values, _with_overrides(values, overrides), f"--config ({name})", "--set", name)


def _option_of(name: str, key: str) -> str:
    """`steps` for `steps` and for `train.steps`. Raises UserError for an option of another block."""
    block, _, option = key.partition(".")
    if block == name and option:
        return option
    if block in Config.model_fields and option:
        raise UserError(f"{key} is no option of {name}", where="--set", fix=f"give it to the stage {block}")
    return key


def read_config(path: Path | str) -> dict[str, Any]:
    """The blocks of a config file; their values are text where the file is YAML (see `unirefine.config.text`)."""
    path = Path(path)
    try:
        written = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such config file", where=path, fix="config/demo.yaml is one to start from") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not valid YAML: {error}", where=path, fix="save it as UTF-8") from None
    values = parse_yaml(written, where=path)
    if not isinstance(values or {}, dict):
        raise UserError("a config file is a mapping of blocks, as in `split:`", where=path)
    return values or {}


def _with_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with dotted overrides."""
    changed = json.loads(json.dumps(values))
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        block = changed
        for parent in parents:
            block[parent] = {} if block.get(parent) is None else block[parent]
            block = block[parent]
            if not isinstance(block, dict):
                raise UserError(f"{parent} in {dotted} is not a block", where="--set")
        block[last] = value
    return changed


def _merged(values: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both have a value, that of `new`."""
    found = dict(values)
    for key, value in new.items():
        both = isinstance(found.get(key), Mapping) and isinstance(value, Mapping)
        found[key] = _merged(found[key], value) if both else value
    return found


def _with_nulls(value: Any) -> Any:
    """Nested values of Snakemake's `--config`, with None for the text `null`, as in a file."""
    if isinstance(value, Mapping):
        return {key: _with_nulls(inner) for key, inner in value.items()}
    return None if value in ("null", "~", "") else value


def _validate_both(
    kind: type[AnyBlock],
    values: Mapping[str, Any],
    changed: Mapping[str, Any],
    where: str,
    option: str,
    prefix: str = "",
) -> AnyBlock:
    """Validate `changed`: values of `where`, changed by `option`, which gets the blame unless `values` are wrong."""
    if changed == values:
        return _validate(kind, values, where, prefix)
    try:
        return _validate(kind, changed, option, prefix)
    except UserError:
        _validate(kind, values, where, prefix)
        raise


def _validate(kind: type[AnyBlock], values: Mapping[str, Any], where: str, prefix: str = "") -> AnyBlock:
    try:
        # JSON mode: lists become tuples, and text becomes what the option is
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
        text = f"{key}: {first['msg']} (got {_shown(first['input'])})"
    return text + (f" (and {len(more)} more)" if more else "")


def _shown(value: Any) -> str:
    """A value in a message: numbers without quotes, though YAML's values are text."""
    with contextlib.suppress(TypeError, ValueError):
        float(value)
        return str(value)
    return repr(value)


def _keys(kind: type[BaseModel], location: list[str]) -> list[str]:
    for step in location:
        if step.isdecimal():  # an item of a list of blocks
            continue
        inner = kind.model_fields[step].annotation
        inner = get_args(inner)[0] if get_origin(inner) is tuple else inner
        assert isinstance(inner, type) and issubclass(inner, BaseModel), inner
        kind = inner
    return list(kind.model_fields)
