"""Which stages a run takes from its base (`run.base`): those made with the same options, code and tools."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirefine.config import Config
from unirefine.core.levels import DATA_STAGES, LEVELS
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.code import stage_digest
from unirefine.files.stages import RESULTS, stage_path
from unirefine.tools import find_mmseqs, tool_version


def release_files(config: Config) -> list[str]:
    """Names of the downloads that a config needs."""
    release, files = config.release, []
    if release.source != "fasta":
        files = [f"{level}.{release.format}.gz" for level in LEVELS]
        files += [f"{level}.release_note" for level in LEVELS]
        if release.needs_idmapping:
            files.append("idmapping_selected.tab.gz")
    if release.taxdump:
        files.append("taxdump.tar.gz")
    return files + [f"purge-{i}.txt" for i in range(len(release.purge_lists))]


def find(config: Config, root: Path = RESULTS) -> dict[str, Path]:
    """Directories of the stages that a run takes from elsewhere: from its base, and `release.directory`.

    From the base come the stages, in order, whose options, code, tools and small inputs are those that made what lies
    there. The first that differs, and all after it, are the run's own; so is what the run has already. Raises UserError
    when the base has no results.
    """
    own, base = root / config.run.name, config.run.base
    found: dict[str, Path] = {}
    if base is not None:
        if not (root / base).is_dir():
            raise UserError(
                f"run.base is {base!r}, of which there are no results", where=root / base,
                fix="start that run first, or correct the name",
            )  # fmt: skip
        steps, tools = _recorded(root / base), _tools(config)
        for stage in DATA_STAGES:
            place = stage_path(root / base, stage)
            if _has_files(own / stage) or not _same(stage, config, place, steps, tools):
                break
            found[stage] = place
    if config.release.directory:
        found["release"] = Path(os.path.normpath(config.release.directory))
    return found


def _tools(config: Config) -> dict[str, str]:
    """Versions of the external tools that are found here; those of a container are not."""
    with contextlib.suppress(UserError):
        return {"mmseqs": tool_version(find_mmseqs(config.tools.mmseqs))}
    return {}


def _has_files(directory: Path) -> bool:
    """Hidden files do not count: a lock stays where a command has failed."""
    return any(path.is_file() and not path.name.startswith(".") for path in directory.rglob("*"))


def _recorded(base: Path) -> dict[str, Mapping[str, Any]]:
    """The step that each stage of a run says it was, and release.json. Where its own file is gone, a later tells."""
    found: dict[str, Mapping[str, Any]] = {}
    for stage in reversed(DATA_STAGES[1:]):
        place = stage_path(base, stage)
        for file in (*place.glob(lineage.FILE), *place.glob(f"uniref*/{lineage.FILE}")):  # records has one a level
            told = lineage.read(file)
            found |= {step["stage"]: step for step in told["steps"]}
            found |= {"release": told["release"]} if told["release"] else {}
    if (stage_path(base, "release") / "release.json").exists():
        found["release"] = read_json(stage_path(base, "release") / "release.json")
    return found


def _same(
    stage: str, config: Config, place: Path, steps: Mapping[str, Mapping[str, Any]], tools: Mapping[str, str]
) -> bool:
    """Whether a stage of the base is what this config asks for."""
    step = steps.get(stage)
    if step is None:
        return False
    if stage == "release":
        elsewhere = config.release.directory
        return _same_release(config, step) and (not elsewhere or Path(elsewhere).resolve() == place.resolve())
    asked, recorded = getattr(config, stage).model_dump(mode="json"), dict(step["config"])
    if stage == "decontaminate":  # its last rule alone reads how many the audit draws, and notes it
        audited = place / "identity.json"
        recorded["audit_sample"] = read_json(audited)["audit"]["sample"] if audited.exists() else asked["audit_sample"]
    if step.get("code") != stage_digest(stage):
        return False
    if asked != recorded or any(tools.get(name, version) != version for name, version in step["tools"].items()):
        return False
    return all(Path(file["file"]).exists() and lineage.described(file["file"]) == file for file in step["inputs"])


def _same_release(config: Config, found: Mapping[str, Any]) -> bool:
    """Whether release.json lists the files that a config asks for, from where it asks for them."""
    asked, files = config.release, {file["file"]: file["url"] for file in found["files"]}
    if found["source"] != asked.source or asked.name not in (None, found["release"]):
        return False
    sources: dict[str, str | None] = dict.fromkeys(release_files(config))  # of UniProt's own any mirror will do
    sources |= {f"purge-{i}.txt": source for i, source in enumerate(asked.purge_lists)}
    if asked.taxdump:
        sources["taxdump.tar.gz"] = asked.taxdump
    if asked.source == "fasta":
        sources[Path(str(asked.fasta)).name] = str(Path(str(asked.fasta)))
    return files.keys() == sources.keys() and all(sources[name] in (None, url) for name, url in files.items())
