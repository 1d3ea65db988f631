"""`lineage.json`, which every stage writes: all steps that led to a directory of shards, a checkpoint or a model.

A stage copies the steps from the directories that it reads and adds its own, so each file has the complete history:
release and md5s, options, counts, versions, commit, and hashes of the result's files.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.files.code import source, stage_digest, versions
from unirefine.files.hashes import sha256_json

FILE = "lineage.json"
FORMAT, FORMAT_VERSION = "unirefine-lineage", 1
DATA_PACKAGES = ("numba", "numpy", "polars", "pyarrow")
TRAIN_PACKAGES = ("torch", "megatron-core", "transformers", "numpy")


def step(
    stage: str,
    config: BaseModel,
    *,
    counts: Mapping[str, Any] | None = None,
    inputs: Iterable[Path | str] = (),
    tools: Mapping[str, str] | None = None,
    packages: Sequence[str] = DATA_PACKAGES,
) -> dict[str, Any]:
    """The entry of one stage: its options, counts, inputs, versions and code.

    inputs: small files that no release.json lists (id lists, designs, initial weights), recorded with their md5. tools:
    versions of external programs by name. packages: distributions whose version is recorded. The key `code` is the
    digest that makes Snakemake rerun the stage; `source` is the version of all code.
    """
    options = config.model_dump(mode="json")
    return {
        "stage": stage,
        "config": options,
        "config_sha256": sha256_json(options),
        "counts": dict(counts or {}),
        "inputs": [described(path) for path in inputs],
        "tools": dict(tools or {}),
        "versions": versions(*packages),
        "code": stage_digest(stage),
        "source": source(),
    }


def described(path: Path | str) -> dict[str, Any]:
    """`{file, bytes, md5}` of an input file."""
    path = Path(path)
    with path.open("rb") as handle:
        return {"file": str(path), "bytes": path.stat().st_size, "md5": hashlib.file_digest(handle, "md5").hexdigest()}


def write(
    directory: Path | str, last: Mapping[str, Any], read_from: Iterable[Path | str] = (), **facts: Any
) -> dict[str, Any]:
    """Write `<directory>/lineage.json`, the steps of the directories in `read_from` and then `last`, and return it.

    A directory without lineage (made by hand, or by another program) is listed under `unknown`. facts: further keys,
    such as `files`, and `release`, the content of release.json, which is otherwise copied from `read_from`.
    """
    found: dict[str, Any] = {"release": None, "steps": [], "unknown": []}
    for path in map(Path, read_from):
        if not (path / FILE).exists():
            found["unknown"].append(str(path))
            continue
        earlier = read(path)
        found["release"] = found["release"] or earlier["release"]
        for key in ("steps", "unknown"):
            found[key] += [one for one in earlier[key] if one not in found[key]]
    if last not in found["steps"]:
        found["steps"].append(dict(last))
    lineage = {"format": FORMAT, "version": FORMAT_VERSION, "of": last["stage"], **found, **facts}
    write_json(Path(directory) / FILE, lineage)
    return lineage


def read(path: Path | str) -> dict[str, Any]:
    """Read the lineage of a directory (shards, a checkpoint, `final/`, an exported model), or the file itself.

    Raises UserError when there is none, or when it is of another format.
    """
    path = Path(path)
    if not path.exists():
        raise UserError("no such directory", where=path)
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise UserError(
            f"no {FILE} in it, so its origin is unknown", where=path, fix="give the shards or a model of a run"
        )
    lineage = read_json(file)
    if not isinstance(lineage, dict) or lineage.get("format") != FORMAT or lineage.get("version") != FORMAT_VERSION:
        raise UserError(f"not a {FORMAT} of version {FORMAT_VERSION}", where=file)
    return lineage


def data_set_of(released: Mapping[str, Any] | None) -> str | None:
    """What a run began with where that is a data set: its directory, or `owner/name@4ac1d2973567`; else None.

    released: release.json.
    """
    found = (released or {}).get("dataset")
    if not found:
        return None
    return f"{found['id']}@{found['revision'][:12]}" if found["revision"] else str(found["id"])


def lines(lineage: Mapping[str, Any]) -> list[str]:
    """A lineage as lines of text: the release, each step, and the files."""
    text = []
    if released := lineage["release"]:
        text.append(f"release {released['release'] or data_set_of(released) or '(your FASTA)'}, {released['date']}")
        text += [
            f"  {file['file']}  {file['size']:,} B  md5 {file['md5']}  {file['url']}" for file in released["files"]
        ]
    for one in lineage["steps"]:
        text.append(f"{one['stage']}  {code_of(one)}  config {one['config_sha256'][:12]}")
        text.append(f"  options {json.dumps(one['config'])}")
        text += [f"  input {file['file']}  {file['bytes']:,} B  md5 {file['md5']}" for file in one["inputs"]]
        text += [f"  {name}: {json.dumps(value)}" for name, value in one["counts"].items()]
        text.append("  " + ", ".join(f"{name} {version}" for name, version in (one["tools"] | one["versions"]).items()))
    text += [f"unknown: {path} has no lineage" for path in lineage["unknown"]]
    text += [f"file {file['name']}  {file['bytes']:,} B  sha256 {file['sha256']}" for file in lineage.get("files", [])]
    return text


def code_of(one: Mapping[str, Any]) -> str:
    """The code of a step in short: `unirefine 0.2.0 at 4eb6dfd2c1 (modified)`."""
    commit, modified = one["source"]["commit"], one["source"]["modified"]
    where = f" at {commit[:10]}" if commit else f", code {one['source']['digest']}"
    return f"unirefine {one['versions']['unirefine']}{where}{' (modified)' if modified else ''}"


def step_name(one: Mapping[str, Any], released: Mapping[str, Any] | None) -> str:
    """The stage of a step; of records, which takes each level of UniRef alone, with its level: `records, UniRef90`.

    released: release.json.
    """
    levels = [name for name, count in one["counts"].items() if isinstance(count, Mapping) and "kept" in count]
    own = (released or {}).get("source") == "fasta"
    if own or one["stage"] != "records" or len(levels) != 1:
        return str(one["stage"])
    return f"records, {levels[0].replace('uniref', 'UniRef')}"
