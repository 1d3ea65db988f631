"""UniRef50 and UniRef90 XML out of the one tarball of an older release.

The tarball (169 GB for 2021_04) is downloaded like every other file, its files are extracted, and it is deleted. After
a kill the download goes on where it was; a tarball that is there is verified instead of downloaded, and extracted anew.
"""

from pathlib import Path
from typing import Any

from unirefine.config import Release
from unirefine.core.levels import LEVELS
from unirefine.core.tars import BadTar
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory, read_json, temporary_directory, write_json
from unirefine.release import fetch
from unirefine.release.files import check_space, describe, facts_of, hash_file, locked, size_of
from unirefine.release.sources import Sources, tarball_name
from unirefine.release.tarball import extract
from unirefine.release.transport import Downloader

INNER_TARS = tuple(f"{level}.tar" for level in LEVELS)
WANTED = tuple(f"{level}.{kind}" for level in reversed(LEVELS) for kind in ("xml.gz", "release_note"))
EXTRACTED_SHARE = 0.4
"""Room for the extracted files, as a share of the tarball. An estimate: each level lists all members, as UniRef100
does, and UniRef90 and UniRef50 have somewhat less than half and a sixth of its entries, which makes 38%."""


def run(directory: Path, config: Release, downloader: Downloader | None = None) -> list[dict[str, Any]]:
    """Write the files `WANTED` to `directory`, each with its facts in a `.json`, and return the facts.

    Files that are there as an earlier run described them are kept. downloader: the config's unless given. Raises
    UserError when the disk has no room for the tarball and its files, when the tarball cannot be downloaded, or when it
    is not one of a release; it is then deleted, as are all files extracted from it.
    """
    tarball = directory / tarball_name(config.name)
    directory.mkdir(parents=True, exist_ok=True)
    with (
        locked(directory / f"{tarball.name}.lock"),
        temporary_directory(tarball, "extracted") as scratch,  # deletes those of killed runs, before room is checked
    ):
        extracted = _extracted(directory, config)
        if extracted is None:
            extracted = _extract(tarball, scratch, config, downloader)
        # the tarball last: as long as it is there, a restart does not download it again
        facts_of(tarball).unlink(missing_ok=True)
        tarball.unlink(missing_ok=True)
    return extracted


def _extracted(directory: Path, config: Release) -> list[dict[str, Any]] | None:
    """The facts of an earlier run's files; None unless all are there and have the hashes that the facts state."""
    paths = [directory / name for name in WANTED]
    if not all(path.exists() and facts_of(path).exists() for path in paths):
        return None
    extracted = [read_json(facts_of(path)) for path in paths]
    for path, facts in zip(paths, extracted, strict=True):
        if facts["release"] != config.name or facts["size"] != size_of(path):
            return None
    for path, facts in zip(paths, extracted, strict=True):
        with path.open("rb") as handle:
            if hash_file(handle, path.name).result()["sha256"] != facts["sha256"]:
                return None
    return extracted


def _extract(tarball: Path, scratch: Path, config: Release, downloader: Downloader | None) -> list[dict[str, Any]]:
    """Download the tarball, extract its files to `scratch` and move them beside it once all are there."""
    directory = tarball.parent
    _check_room(tarball, Sources.of(config, downloader))
    source = fetch.run(tarball.name, tarball, config, downloader)
    try:
        hashes = extract(tarball, scratch, WANTED, INNER_TARS)
    except BadTar as error:
        facts_of(tarball).unlink()
        tarball.unlink()
        raise UserError(
            str(error),
            where=tarball.name,
            fix=f"it was deleted; {source['url']} and its metalink agree on it, so use another mirror",
        ) from None
    extracted = []
    for name in WANTED:
        (scratch / name).replace(directory / name)
        url, asked = (f"{source[key]}#{name}" for key in ("url", "asked_url"))
        facts = describe(name, url, asked, source["release"], hashes[name], verified_by=source["verified_by"])
        write_json(facts_of(directory / name), facts)
        extracted.append(facts)
    fsync_directory(directory)
    return extracted


def _check_room(tarball: Path, sources: Sources) -> None:
    """Raise UserError unless the disk has room for what is missing of the tarball and for the files in it."""
    size = sources.find(tarball.name).size
    assert size is not None, "a metalink states sizes"
    there = size_of(tarball) or size_of(fetch.partial_of(tarball))
    needed = max(size - there, 0) + round(EXTRACTED_SHARE * size)
    check_space(tarball.parent, needed, f"{tarball.name}, with UniRef90 and UniRef50 out of it,")
