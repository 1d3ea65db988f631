"""The types of the values in the JSON files of a run, by the name of the file.

All keys are optional: a file of an older version lacks some, and `documents.Document` says so when one is asked for.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

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
class Download(TypedDict, total=False):
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
    files: list[Download]
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


KINDS: dict[str, Any] = {
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
"""Of each file name. Other files may hold anything."""
