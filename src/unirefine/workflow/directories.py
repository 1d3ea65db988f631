"""Which stages a run takes from its base (`run.base`): those made with the same options, code and tools."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Config
from unirefine.core.levels import DATA_STAGES
from unirefine.errors import UserError
from unirefine.files import lineage, names
from unirefine.files.atomic import read_json
from unirefine.files.code import stage_digest
from unirefine.files.stages import RESULTS, stage_path
from unirefine.tools import find_mmseqs, tool_version
from unirefine.workflow.options import release_files


def shared_directories(config: Config, root: Path = RESULTS) -> dict[str, Path]:
    """Directories of the stages that a run does not make itself: those of its base, and `release.directory`.

    Stages are taken from the base in the order of the workflow, as long as they were made with this config's options,
    with this code, and with the tools and small inputs that are found now. The first stage that differs, and all after
    it, are the run's own. So is a stage that the run has made already. Raises UserError when the base has no results.
    """
    results, base = root / config.run.name, config.run.base
    found: dict[str, Path] = {}
    if base is not None:
        if not (root / base).is_dir():
            raise UserError(
                f"run.base is {base!r}, of which there are no results", where=root / base,
                fix="start that run first, or correct the name",
            )  # fmt: skip
        steps, tools = _recorded(root / base), _tools(config)
        for stage in DATA_STAGES:
            directory = stage_path(root / base, stage)
            if _has_files(results / stage) or not _is_same(stage, config, directory, steps, tools):
                break
            found[stage] = directory
    if config.release.directory:
        found["release"] = Path(os.path.normpath(config.release.directory))
    return found


def _tools(config: Config) -> dict[str, str]:
    """Versions of the external tools that this process finds. It does not look into containers."""
    with contextlib.suppress(UserError):
        return {"mmseqs": tool_version(find_mmseqs(config.tools.mmseqs))}
    return {}


def _has_files(directory: Path) -> bool:
    """Whether a command has written there. Hidden files do not count: a lock stays where a command has failed."""
    return any(path.is_file() and not path.name.startswith(".") for path in directory.rglob("*"))


def _recorded(base: Path) -> dict[str, Mapping[str, Any]]:
    """The lineage step of each stage of a run, and release.json.

    Where a stage's own lineage is gone, its step is taken from a later stage's.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for stage in reversed(DATA_STAGES[1:]):
        directory = stage_path(base, stage)
        for file in (*directory.glob(lineage.FILE), *directory.glob(f"uniref*/{lineage.FILE}")):  # records: one a level
            made = lineage.read(file)
            found |= {step["stage"]: step for step in made["steps"]}
            found |= {"release": made["release"]} if made["release"] else {}
    if (stage_path(base, "release") / "release.json").exists():
        found["release"] = read_json(stage_path(base, "release") / "release.json")
    return found


def _is_same(
    stage: str, config: Config, directory: Path, steps: Mapping[str, Mapping[str, Any]], tools: Mapping[str, str]
) -> bool:
    """Whether the base's stage in `directory` is what this config would make."""
    step = steps.get(stage)
    if step is None:
        return False
    if stage == "release":
        named = config.release.directory
        return _is_same_release(config, step) and (not named or Path(named).resolve() == directory.resolve())
    asked, recorded = getattr(config, stage).model_dump(mode="json"), dict(step["config"])
    if stage == "decontaminate":  # audit_sample is an option of its last rule alone, which records it in identity.json
        audited = directory / "identity.json"
        recorded["audit_sample"] = read_json(audited)["audit"]["sample"] if audited.exists() else asked["audit_sample"]
    if step.get("code") != stage_digest(stage):
        return False
    if asked != recorded or any(tools.get(name, version) != version for name, version in step["tools"].items()):
        return False
    return all(Path(file["file"]).exists() and lineage.described(file["file"]) == file for file in step["inputs"])


def _is_same_release(config: Config, found: Mapping[str, Any]) -> bool:
    """Whether release.json lists the files that a config asks for, from where it asks for them."""
    asked, files = config.release, {file["file"]: file.get("asked_url", file["url"]) for file in found["files"]}
    if found["source"] != asked.source or asked.name not in (None, found["release"]):
        return False
    sources: dict[str, str | None] = dict.fromkeys(release_files(config))  # None: any mirror will do
    sources |= {names.purge_list(number): source for number, source in enumerate(asked.purge_lists)}
    if asked.taxdump:
        sources[names.TAXDUMP] = asked.taxdump
    if asked.source == "fasta":
        sources |= {Path(path).name: str(Path(path)) for path in asked.own_files}
    if asked.is_data_set:
        if found.get("dataset") != {"id": asked.dataset, "revision": asked.revision}:
            return False
        own = {name for name in files if name == names.TAXDUMP or names.parse_purge_list(name) is not None}
        files = {name: url for name, url in files.items() if name in own}
    return files.keys() == sources.keys() and all(sources[name] in (None, url) for name, url in files.items())
