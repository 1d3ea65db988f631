"""Config files to start from, with comments: what `unirefine init` writes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from unirefine.config.load import parse_config
from unirefine.config.text import parse_yaml
from unirefine.files.home import HOME

CURRENT = "current"
"""In place of the name of a release: the one that UniProt serves on the day."""

_HEAD = """# yaml-language-server: $schema={schema}
# Written by `unirefine init`. Next: `unirefine run {file} -n` shows what would run, `unirefine run {file}` runs it.
# Every option, its meaning and its default: {options}
run:
  name: {name}  # results go to results/<name>/
  threads: {threads}  # of one job of the data half
"""
_FASTA = """# your own proteins
release:
  source: fasta
  fasta: {fasta}  # plain, or compressed with gzip, bzip2, xz or zstd; MMseqs2 builds its clusters
  taxdump: null  # a FASTA of your own names no taxa
records:
  parts: 8
split:
  validation_fraction: 0.05  # of the clusters; 100 of them at least say something, and a warning says so below that
decontaminate:
  parts: 1
"""
_CURRENT = """release:
  source: current  # whatever UniProt serves on the day; `name: "2026_03"` makes another one an error
  format: xml  # fasta is less than half the size, and loses clusters of UniParc sequences
"""
_ARCHIVE = """release:
  source: archive  # out of the release's one tarball, which takes 1.4 times its size on disk for a while
  name: {release}
"""
_PUBLISHED = """# NVIDIA's published ESM-2 data set, with its clusters and its validation sequences; docs/data-sets.md
release:
  source: parquet
  dataset: {dataset}  # on the Hugging Face Hub, or a directory
  revision: {revision}
  taxdump: null  # its rows have no taxa
"""
_SPLIT = """split:
  validation_fraction: 0.005  # of the clusters; exactly so many validate, chosen by keyed hash
"""
_GIVEN = """split:
  method: given  # as the data set has it
decontaminate:
  audit_failures: report  # what the search still finds similar is removed and counted
"""
_MODEL = """train:
  model: {{preset: {model}}}  # 8M, 35M, 150M, 650M, 3B or 15B
"""
_INIT = """train:
  init: {start}  # its sizes are taken
  validation: {{}}  # as in {{general: results/demo}}: a run whose validation shard says what the model forgets
"""
_PARALLEL = """  parallel: {{nodes: 1, processes_per_node: {gpus}}}  # one process a GPU
"""
_STEPS = """  steps: {steps}  # `unirefine train --config {file} --dry-run` says what they cost
  optimizer: {{warmup_steps: {warmup}}}
"""
_EPOCHS = """  epochs: auto  # steps, batch and learning rate fit the number of clusters; or a number of epochs
"""
_FEW = """  global_batch: {batch}  # sequences of a step; ESM-2's 2,048 are for millions of proteins
"""


def text(
    file: Path,
    *,
    name: str,
    threads: int,
    model: str,
    gpus: int,
    steps: int | None,
    fasta: str | None = None,
    release: str | None = None,
    start: str | None = None,
) -> str:
    """The text of a config: of a FASTA, of a release (`2024_03` or CURRENT), or without either of the published set.

    steps: None for those that fit the data. start: a model to continue.

    Raises UserError where the answers do not make a config.
    """
    answers = {
        "schema": HOME / "config/schema.json",
        "options": HOME / "config/README.md",
        "file": file,
        "name": _quoted(name),
        "threads": threads,
        "model": model,
        "gpus": gpus,
        "steps": steps,
        "warmup": min(2000, (steps or 0) // 10),
        "start": _quoted(start or ""),
        "batch": 64 * gpus,
        "fasta": _quoted(fasta or ""),
        "release": json.dumps(release),
        **_published(),
    }
    if fasta:
        source = [_FASTA]
    elif release:
        source = [_CURRENT if release == CURRENT else _ARCHIVE, _SPLIT]
    else:
        source = [_PUBLISHED, _GIVEN]
    size = [_INIT if start else _MODEL, _PARALLEL]
    length = [_EPOCHS] if steps is None else [_STEPS, _FEW] if fasta else [_STEPS]
    made = "".join(part.format(**answers) for part in (_HEAD, *source, *size, *length))
    parse_config(parse_yaml(made, where=file), where=str(file))
    return made


def _published() -> Mapping[str, str]:
    """The data set that config/nvidia-2024_03.yaml names, and its commit."""
    values = yaml.safe_load((HOME / "config/nvidia-2024_03.yaml").read_text(encoding="utf-8"))
    return {key: values["release"][key] for key in ("dataset", "revision")}


def _quoted(word: str) -> str:
    """A word as YAML takes it: in quotes unless it is plain."""
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", word, re.ASCII) and word not in ("null", "true", "false", "yes", "no")
    return word if plain else json.dumps(word)
