"""Where the stages of a run lie: in `results/<run>/<stage>`, or in another run that made the same before (`run.base`).

A run that uses stages of another lists them in `results/<run>/places.json`: so a reader of a run finds them, and
`unirefine clean` learns who else reads a stage. Nothing is linked or copied.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from unirefine.files.atomic import read_json, write_json

FILE = "places.json"
RESULTS = Path("results")


def shared(results: Path) -> dict[str, Path]:
    """Directories of the stages that are not below `results` (of one run) itself, by stage."""
    file = results / FILE
    noted = read_json(file) if file.exists() else {}
    return {stage: Path(os.path.normpath(results / path)) for stage, path in noted.items()}


def stage_path(results: Path, stage: str) -> Path:
    """The directory of a stage, for whoever reads a run."""
    return shared(results).get(stage, results / stage)


def write(results: Path, places: Mapping[str, Path | str]) -> None:
    """Note the stages of a run that are elsewhere; without any there is no file.

    Paths are kept relative to the run, so that `results/` can be moved as a whole.
    """
    if not places:
        (results / FILE).unlink(missing_ok=True)
        return
    relative = {
        stage: str(path) if Path(path).is_absolute() else os.path.relpath(path, results)
        for stage, path in places.items()
    }
    write_json(results / FILE, relative)


def users(directory: Path, root: Path = RESULTS) -> list[str]:
    """Names of the runs that read a directory which is not below their own."""
    return sorted(
        file.parent.name
        for file in root.glob(f"*/{FILE}")
        if directory.resolve() in {path.resolve() for path in shared(file.parent).values()}
    )
