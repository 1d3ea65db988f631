"""Is there a newer release of UniProt than a run's?"""

from pathlib import Path
from typing import Any

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.files.stages import stage_path
from unirefine.release.sources import Sources
from unirefine.release.transport import Downloader


def run(results: Path, config: Release, downloader: Downloader | None = None) -> dict[str, Any]:
    """`{release, current, newer, url}`: the run's release, the current one, and where that was read.

    newer: whether the current one is newer. results: `results/<run>`, or the directory of a release.json. Raises
    UserError when the run is of no release of UniProt, or when no mirror answers.
    """
    directory = results if (results / "release.json").exists() else stage_path(results, "release")
    path = directory / "release.json"
    known = read_json(path)["release"]
    if known is None:
        raise UserError("is of no release of UniProt", where=path, fix="there is nothing to compare it with")
    current, url = Sources.of(config, downloader).current()
    return {"release": known, "current": current, "newer": current > known, "url": url}


def line(found: dict[str, Any]) -> str:
    """The result in one line."""
    if found["newer"]:
        return f"release {found['current']} is newer than {found['release']} ({found['url']}); docs/releases.md"
    if found["current"] == found["release"]:
        return f"release {found['release']} is the current one ({found['url']})"
    return f"release {found['release']} is newer than {found['current']}, which that mirror serves ({found['url']})"
