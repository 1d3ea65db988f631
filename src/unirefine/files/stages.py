"""The directories of a run's stages: `results/<run>/<stage>`, or a directory shared with another run (`run.base`).

A run lists the stages that it shares in `results/<run>/places.json`, so that a reader of the run finds them and
`unirefine clean` knows which runs need a directory. Nothing is linked or copied.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from unirefine.files.atomic import read_json, write_json

FILE = "places.json"
RESULTS = Path("results")


def shared_stages(results: Path) -> dict[str, Path]:
    """The directories, by stage, that a run reads but that are not below its own. results: `results/<run>`."""
    file = results / FILE
    paths = read_json(file) if file.exists() else {}
    return {stage: Path(os.path.normpath(results / path)) for stage, path in paths.items()}


def stage_path(results: Path, stage: str) -> Path:
    """The directory of a stage of a run. results: `results/<run>`."""
    return shared_stages(results).get(stage, results / stage)


def shards_of(given: Path) -> Path:
    """The directory of shards that is meant by `given`: itself, or where the results of a run have them."""
    return given if (given / "manifest.json").exists() else stage_path(given, "shard")


def write_shared_stages(results: Path, directories: Mapping[str, Path | str]) -> None:
    """Write the list of a run's shared stages; without any, delete it.

    Relative paths are stored relative to the run, so that `results/` can be moved as a whole.
    """
    if not directories:
        (results / FILE).unlink(missing_ok=True)
        return
    relative = {
        stage: str(path) if Path(path).is_absolute() else os.path.relpath(path, results)
        for stage, path in directories.items()
    }
    write_json(results / FILE, relative)


def runs_sharing(directory: Path, root: Path = RESULTS) -> list[str]:
    """Names of the runs below `root` that list a directory among their shared stages."""
    return sorted(
        file.parent.name
        for file in root.glob(f"*/{FILE}")
        if directory.resolve() in {path.resolve() for path in shared_stages(file.parent).values()}
    )
