"""The JSON files of a run: read in one place, checked for damage, for the types of their values and for missing keys.

Each file that a stage writes ends with a checksum of its content, so a flipped digit is found. Files of older versions
have none; of them, and of files that somebody has edited, types and keys are checked.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from unirefine.errors import UserError
from unirefine.files.hashes import sha256_json

CHECKSUM = "checksum"
"""Last key of a JSON file: SHA-256 of the rest of it (see `sha256_json`)."""
FORMATS_OF_OTHERS = {
    "config.json", "model.safetensors.index.json", "special_tokens_map.json", "tokenizer_config.json",
}  # fmt: skip
"""Hugging Face's files, which users may edit."""
_STAGES = (
    "release", "records", "curate", "cluster", "split", "decontaminate", "shard", "train", "evaluate", "embed",
)  # fmt: skip
_strict = with_config(ConfigDict(strict=True))


_Level = _strict(TypedDict("_Level", {"in": int, "kept": int, "removed": dict[str, int]}, total=False))
"""Of counts.json."""


@_strict
class _Counts(TypedDict, total=False):
    """counts.json of every stage."""

    stage: str
    levels: dict[str, _Level]
    sides: dict[str, dict[str, int | list[str]]]
    violations: dict[str, dict[str, int]] | None
    method: str
    seed: int
    largest_hash: dict[str, str]


@_strict
class _Download(TypedDict, total=False):
    """The `.json` beside a download, and an entry of release.json."""

    file: str
    url: str
    release: str | None
    size: int | None
    md5: str | None
    sha256: str
    date: str


@_strict
class _Published(TypedDict, total=False):
    """Of release.json."""

    file: str
    what: str
    published: str
    found: str
    source: str


@_strict
class _Release(TypedDict, total=False):
    """release.json."""

    source: str
    release: str | None
    dataset: dict[str, str | None]
    date: str | None
    files: list[_Download]
    entries: dict[str, int]
    published: list[_Published]


@_strict
class _File(TypedDict, total=False):
    """Of manifest.json, lineage.json and complete.json."""

    name: str
    bytes: int
    sha256: str


@_strict
class _Side(TypedDict, total=False):
    """Of manifest.json."""

    shards: list[str]
    documents: int
    sequences: int
    tokens: int
    longest: int
    unknown: int


@_strict
class _Manifest(TypedDict, total=False):
    """manifest.json of shards."""

    format: str
    version: int
    alphabet: list[str]
    sides: dict[str, _Side]
    files: list[_File]


@_strict
class _Histogram(TypedDict, total=False):
    """Of identity.json."""

    counts: list[int]
    none: int


@_strict
class _Histograms(TypedDict, total=False):
    """Of identity.json."""

    clusters: int
    before: _Histogram
    after: _Histogram


@_strict
class _Benchmark(TypedDict, total=False):
    """Of identity.json."""

    name: str
    file: str
    action: str
    proteins: int
    removed: int
    similar: int
    before: _Histogram
    after: _Histogram


@_strict
class _Identity(TypedDict, total=False):
    """identity.json."""

    threshold: float
    coverage: float
    evalue: float
    validation_clusters: int
    edges: list[float]
    before: _Histogram
    after: _Histogram
    test: _Histograms | None
    benchmarks: list[_Benchmark]
    search: dict[str, Any]
    audit: dict[str, Any]


_Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


@_strict
class _Measured(TypedDict, total=False):
    """Of perplexity.json: the positions of one kind."""

    residues: int
    perplexity: float | None
    interval: _Interval | None
    ratio: float | None
    ratio_interval: _Interval | None


@_strict
class _Row(TypedDict, total=False):
    """Of perplexity.json."""

    key: str
    model: str
    perplexity: float
    interval: _Interval
    masked: int
    hidden: _Measured
    kept: _Measured
    random: _Measured


@_strict
class _Estimate(TypedDict, total=False):
    """Of perplexity.json: a perplexity."""

    perplexity: float | None
    interval: _Interval | None


@_strict
class _Pair(TypedDict, total=False):
    """Of perplexity.json: before and after, at the positions of one kind."""

    residues: int
    before: _Estimate | None
    after: _Estimate
    ratio: float | None
    ratio_interval: _Interval | None


_Set = _strict(
    TypedDict(
        "_Set",
        {"set": str, "shards": str, "sequences": int, "clusters": int, "all": _Pair, "hidden": _Pair},
        total=False,
    )
)
"""Of perplexity.json: a validation set."""


@_strict
class _Continued(TypedDict, total=False):
    """Of perplexity.json."""

    before: str | None
    sets: list[_Set]


@_strict
class _Evaluation(TypedDict, total=False):
    """perplexity.json."""

    sequences: int
    masked: int
    hidden: int
    kept: int
    random: int
    table: Annotated[list[_Row], Field(min_length=1)]
    parity: list[dict[str, Any]]
    breakdowns: dict[str, list[dict[str, Any]]]
    benchmarks: list[dict[str, Any]]
    continued: _Continued


@_strict
class _Trained(TypedDict, total=False):
    """train.json."""

    step: int
    samples: int
    tokens: int
    seconds: float
    parameters: int
    config: dict[str, Any]
    identity: dict[str, str]


@_strict
class _Sizes(TypedDict, total=False):
    """Of complete.json."""

    layers: int
    hidden: int
    heads: int


@_strict
class _Progress(TypedDict, total=False):
    """Of complete.json, in the checkpoints of a training."""

    step: int
    samples: int
    tokens: int
    seconds: float
    latest: dict[str, float]
    identity: dict[str, str]


@_strict
class _Checkpoint(TypedDict, total=False):
    """complete.json of a checkpoint."""

    format: int
    model: _Sizes
    dtype: str
    extra: _Progress
    versions: dict[str, str]


@_strict
class _Source(TypedDict, total=False):
    """Of lineage.json."""

    commit: str | None
    modified: bool | None
    digest: str


@_strict
class _Input(TypedDict, total=False):
    """Of lineage.json."""

    file: str
    bytes: int
    md5: str


@_strict
class _Step(TypedDict, total=False):
    """Of lineage.json."""

    stage: str
    config: dict[str, Any]
    config_sha256: str
    counts: dict[str, Any]
    inputs: list[_Input]
    tools: dict[str, str]
    versions: dict[str, str]
    source: _Source


@_strict
class _Lineage(TypedDict, total=False):
    """lineage.json."""

    format: str
    version: int
    of: str
    release: _Release | None
    steps: list[_Step]
    unknown: list[str]
    files: list[_File]


@_strict
class _ModelConfig(TypedDict, total=False):
    """config.json of a model, as transformers writes it."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    vocab_size: int


@_strict
class _WeightIndex(TypedDict, total=False):
    """model.safetensors.index.json, as transformers writes it."""

    weight_map: dict[str, str]


@_strict
class _Target(TypedDict, total=False):
    """Of unirefine-task.json."""

    name: str
    task: str
    classes: list[str]


@_strict
class _Task(TypedDict, total=False):
    """unirefine-task.json of a fine-tuned model."""

    base: str
    mode: str
    max_residues: int
    targets: Annotated[list[_Target], Field(min_length=1)]


_KINDS: dict[str, Any] = {
    "complete.json": _Checkpoint,
    "config.json": _ModelConfig,
    "counts.json": _Counts,
    "identity.json": _Identity,
    "lineage.json": _Lineage,
    "manifest.json": _Manifest,
    "model.safetensors.index.json": _WeightIndex,
    "perplexity.json": _Evaluation,
    "places.json": dict[str, str],
    "release.json": _Release,
    "train.json": _Trained,
    "unirefine-task.json": _Task,
}


class Document(dict):
    """An object of a JSON file. A key that is asked for and is not there raises UserError, which names the file."""

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), path: Path | None = None) -> None:
        """path: the file; None for a copy that others make of the class, as dataclasses.asdict does."""
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> Any:
        if self._path is None:
            raise KeyError(key)
        raise UserError(f"it has no {key!r}", where=self._path, fix=_again(self._path))


def with_checksum(value: Any, path: Path) -> Any:
    """What is written to `path`: an object with its checksum as the last key; another value, and those of
    FORMATS_OF_OTHERS, as they are.
    """
    if not isinstance(value, dict) or path.name in FORMATS_OF_OTHERS:
        return value
    value = {key: each for key, each in value.items() if key != CHECKSUM}
    return {**value, CHECKSUM: sha256_json(value)}


def parse(text: str, path: Path) -> Any:
    """The value in the text of a JSON file, without its checksum; its objects are of class Document.

    path: where the text is from; its name decides which types the values must have. Raises UserError when the text is
    not JSON, when it is not what was written, and when a value has another type.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({error})", where=path, fix=_again(path)) from None
    if isinstance(value, dict) and CHECKSUM in value:
        stated = value.pop(CHECKSUM)
        if stated != sha256_json(value):
            raise UserError("its content is not what was written (checksum)", where=path, fix=_again(path))
    _check_types(value, path)
    return _documents(value, path)


def read_lines(path: Path, *, sha256: str | None = None, torn: bool = False) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl: objects with a whole number `step` and further numbers.

    sha256: of the file, where it is known. torn: leave out a last line that is incomplete, as a killed run leaves it.
    Raises UserError, with the line, when the file is missing or damaged.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="run the train stage") from None
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise UserError("its content is not what was written (SHA-256 differs)", where=path, fix=_again(path))
    lines = raw.decode("utf-8", "replace").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_metrics(line))
        except (ValueError, RecursionError) as error:
            if torn and number == len(lines):
                break
            raise UserError(f"not a line of metrics ({error})", where=f"{path}:{number}", fix="delete it") from None
    return found


def set_names(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the further validation sets (`train.validation`) that lines of metrics have losses of, sorted."""
    keys = {key for line in lines for key in line}
    return sorted(key.partition("/")[2] for key in keys if key.startswith("validation_loss/"))


def _metrics(line: str) -> dict[str, Any]:
    """One line of metrics. Raises ValueError."""
    value = json.loads(line)
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        raise ValueError("no whole number `step`")
    wrong = next((name for name, each in value.items() if type(each) not in (int, float)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is not a number")
    return value


def _check_types(value: Any, path: Path) -> None:
    """Raise UserError for a value of another type than the file's name promises."""
    kind = _KINDS.get(path.name, _Download if _is_beside_a_file(path) else None)
    if kind is None:
        return
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = f"{key}: {first['msg']}" if key else f"not an object ({first['msg']})"
        raise UserError(f"not what this version writes: {what}", where=path, fix=_again(path)) from None


def _is_beside_a_file(path: Path) -> bool:
    """Whether it has the facts of a download, as uniref50.xml.gz.json has."""
    return bool(Path(path.stem).suffix)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _documents(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return Document({key: _documents(each, path) for key, each in value.items()}, path)
    return [_documents(each, path) for each in value] if isinstance(value, list) else value


def _again(path: Path) -> str:
    """What to do about a damaged file: the stage whose directory it is in writes it again."""
    stage = next((part for part in reversed(path.parts[:-1]) if part in _STAGES), None)
    if stage is None and _is_beside_a_file(path):
        stage = "release"
    if stage is None:
        return "restore it, or make it again"
    return f"delete it and run the {stage} stage again"
