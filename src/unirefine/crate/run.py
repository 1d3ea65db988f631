"""The crate: the workflow, the small files of a run, and hashes of the files that are too large to be packed.

https://w3id.org/ro/wfrun/workflow: one CreateAction whose instrument is the workflow, whose objects are the inputs and
options, whose results are the outputs. Everything is read from the lineage.
"""

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import atomic_path, read_json
from unirefine.files.home import HOME
from unirefine.files.stages import shared_stages, stage_path

PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
BIOSCHEMAS = "https://bioschemas.org/profiles"
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
"""Where sha256 and md5 are defined."""
APACHE = ("https://spdx.org/licenses/Apache-2.0", "Apache License 2.0", "The code of the workflow.")
CC_BY = (
    "https://spdx.org/licenses/CC-BY-4.0",
    "Creative Commons Attribution 4.0 International",
    "UniProt's data and what is made from them: name UniProt wherever you pass them on.",
)
DATA_SET_LICENCE = "The licence of the input data set; the workflow's code is under Apache-2.0."
FASTA_LICENCE = "The licence of the input FASTA; the workflow's code is under Apache-2.0."
NO_LICENCE = "None has been chosen for the weights; see results/cards/model/README.md."
ENCODINGS = {
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".bin": "application/octet-stream",
    ".idx": "application/octet-stream",
    ".safetensors": "application/octet-stream",
}
"""Media types by suffix. A suffix that is not listed is text."""
PACKED = ("*.json", "*/*.json", "*/*/*.json", "final/metrics.jsonl", "*/README.md", "*.html")
"""Files of a stage that are packed: the small ones that people and programs read."""
HOMES = {
    "unirefine": "https://pypi.org/project/unirefine/",
    "python": "https://www.python.org/",
    "mmseqs": "https://github.com/soedinglab/MMseqs2",
}
"""Pages of the software. Other names are packages of PyPI."""


def run(results: Path, output: Path) -> dict[str, int]:
    """Write the crate of the finished run in `results` to the zip `output`.

    Returns `{packed: files in it, named: files that it names by hash}`. Raises UserError when the run is not finished,
    or when unirefine does not run from a checkout, which holds the workflow.
    """
    model, shards = lineage.read(results / "train" / "final"), lineage.read(stage_path(results, "shard"))
    evaluation = read_json(results / "evaluate" / "perplexity.json")
    if not (HOME / "Snakefile").exists():
        raise UserError("the workflow is not here", where=HOME, fix="install unirefine anew, or run it from a checkout")
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(CONTEXT)
    crate.name = f"unirefine run {results.name}"
    crate.description = f"An ESM-2 trained and evaluated by unirefine, run {results.name}: its workflow and provenance."
    source = (model["release"] or {}).get("source")
    elsewhere = {"fasta": FASTA_LICENCE, "parquet": DATA_SET_LICENCE, "bionemo": DATA_SET_LICENCE}
    data_licence = elsewhere.get(source) or _licence(crate, CC_BY)
    crate.root_dataset["license"] = data_licence
    crate.root_dataset["conformsTo"] = [
        _context(crate, identifier, "CreativeWork", name=name, version=version)
        for identifier, name, version in PROFILES
    ]
    about = {"name": "README.md", "encodingFormat": "text/markdown", "about": crate.root_dataset}
    crate.add_file(HOME / "README.md", "README.md", properties=about)
    crate.metadata["conformsTo"] = [{"@id": crate.metadata.profile}, {"@id": PROFILES[-1][0]}]
    workflow = _workflow(crate, model)
    inputs = [*_downloads(crate, model), *_options(crate, workflow, model)]
    packed = _packed(crate, results)
    named = [_hashed(crate, "shard", file, data_licence) for file in shards["files"]]
    inside = {entity.id for entity in packed}
    others = [file for file in model["files"] if f"results/train/final/{file['name']}" not in inside]
    named += [_hashed(crate, "train/final", file, NO_LICENCE) for file in others]
    began, ended = _times(results, model)
    action = crate.add_action(
        workflow,
        identifier=f"#run-{quote(results.name)}",
        object=inputs,
        result=[*packed, *named],
        properties={
            "name": f"run {results.name}",
            "startTime": began,
            "endTime": ended,
            "actionStatus": "http://schema.org/CompletedActionStatus",
            "description": _perplexity_text(evaluation["table"][0]),
        },
    )
    crate.root_dataset["mentions"] = action
    with atomic_path(output) as temporary:
        crate.write_zip(temporary)
    return {"packed": len(packed), "named": len(named)}


def _perplexity_text(row: Mapping[str, Any]) -> str:
    hidden = row["hidden"]["perplexity"]
    only = "" if hidden is None else f", of hidden residues alone {hidden:.4f}"
    return f"masked perplexity {row['perplexity']:.4f} of all chosen residues{only}"


def _context(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> ContextEntity:
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _licence(crate: ROCrate, licence: tuple[str, str, str]) -> ContextEntity:
    identifier, name, description = licence
    return _context(crate, identifier, "CreativeWork", name=name, description=description)


def _file(crate: ROCrate, identifier: str, **properties: Any) -> ContextEntity:
    """A file of the run that is not in the crate. It is part of the dataset nevertheless."""
    made = _context(crate, identifier, "File", encodingFormat=_encoding(properties["name"]), **properties)
    crate.root_dataset.append_to("hasPart", made)
    return made


def _encoding(name: str) -> str:
    return ENCODINGS.get(PurePosixPath(name).suffix, "text/plain")


def _workflow(crate: ROCrate, model: Mapping[str, Any]) -> Any:
    """The Snakefile as main entity, its rules as parts, and the software of all steps."""
    licence = _licence(crate, APACHE)
    code = {"license": licence, "encodingFormat": "text/plain"}
    workflow = crate.add_workflow(HOME / "Snakefile", "Snakefile", main=True, lang="snakemake", properties=code)
    workflow["name"] = "unirefine"
    workflow["version"] = lineage.code_of(model["steps"][-1])
    workflow["conformsTo"] = {"@id": f"{BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"}
    workflow["hasPart"] = [
        crate.add_file(path, path.relative_to(HOME).as_posix(), properties={"name": path.name, **code})
        for path in [HOME / "workflow/Snakefile", *sorted((HOME / "workflow").rglob("*.smk"))]
    ]
    used = {name: version for one in model["steps"] for name, version in (one["versions"] | one["tools"]).items()}
    workflow["softwareRequirements"] = [
        _context(crate, home, "SoftwareApplication", name=name, softwareVersion=version, url=home)
        for name, version in used.items()
        for home in [HOMES.get(name, f"https://pypi.org/project/{name}/")]
    ]
    return workflow


def _downloads(crate: ROCrate, model: Mapping[str, Any]) -> Iterable[Any]:
    """Input files, by URL where they have one."""
    release = model["release"] or {"files": []}
    for file in release["files"]:
        name = file["file"]
        facts = {"name": name, "contentSize": str(file["size"]), "md5": file["md5"], "sha256": file["sha256"]}
        if name.startswith(("uniref", "idmapping")):
            facts["license"] = {"@id": CC_BY[0]}
        if file["url"].startswith("http"):
            facts |= {"encodingFormat": _encoding(name), "sdDatePublished": release["date"]}
            yield crate.add_file(file["url"], properties=facts)
        else:
            yield _file(crate, f"#input/{name}", **facts, description=file["url"])


def _options(crate: ROCrate, workflow: Any, model: Mapping[str, Any]) -> Iterable[Any]:
    """Every option of every step as a value, and as a parameter of the workflow."""
    parameters, values = {}, {}
    for one in model["steps"]:
        for name, value in one["config"].items():
            key = f"{one['stage']}.{name}"
            if key not in parameters:
                parameters[key] = _context(
                    crate, f"#parameter/{key}", "FormalParameter", name=key, additionalType="Text", valueRequired=False,
                    conformsTo={"@id": f"{BIOSCHEMAS}/FormalParameter/1.0-RELEASE"},
                )  # fmt: skip
            text = value if isinstance(value, str) else json.dumps(value)
            values[key] = _context(
                crate, f"#option/{key}", "PropertyValue", name=key, value=text, exampleOfWork=parameters[key]
            )
            parameters[key]["workExample"] = values[key]
    workflow["input"] = list(parameters.values())
    return values.values()


def _packed(crate: ROCrate, results: Path) -> list[Any]:
    """Small files of all stages, also of those that are shared with another run."""
    every = {path.name: path for path in results.iterdir() if path.is_dir()} | shared_stages(results)
    found = {
        f"results/{stage}/{path.relative_to(directory).as_posix()}": path
        for stage, directory in every.items()
        for pattern in PACKED
        for path in directory.glob(pattern)
    }
    return [
        crate.add_file(
            path,
            name,
            record_size=True,
            properties={"name": name.removeprefix("results/"), "encodingFormat": _encoding(path.name)},
        )
        for name, path in sorted(found.items())
        if path.is_file() and not path.name.startswith(".") and "checkpoints" not in path.parts
    ]


def _hashed(crate: ROCrate, stage: str, file: Mapping[str, Any], licence: ContextEntity | str) -> ContextEntity:
    """An output that is too large to be packed."""
    name = file["name"]
    return _file(
        crate, f"#output/{stage}/{name}", name=name, license=licence, contentSize=str(file["bytes"]),
        sha256=file["sha256"],
    )  # fmt: skip


def _times(results: Path, model: Mapping[str, Any]) -> tuple[str, str]:
    """From the last download (or the first file) to the last result."""
    dates = [path.stat().st_mtime for path in results.glob("*/*.json")]
    began, ended = (
        datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")
        for at in (min(dates), max(dates))
    )
    downloaded = (model["release"] or {}).get("date")
    return min(filter(None, (downloaded, began))), ended
