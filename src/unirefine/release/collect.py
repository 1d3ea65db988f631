"""release.json: all downloads of a release, compared with what is published about them."""

import csv
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unirefine.config import Release
from unirefine.core.levels import SIDES
from unirefine.core.release_note import read_note
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.files.names import DATA_SET, parse_release_note, release_note
from unirefine.files.stages import runs_sharing
from unirefine.files.written import delete_stale
from unirefine.release.files import facts_of, hash_file

SOURCES = Path(__file__).parents[3] / "config" / "sources.tsv"


def run(
    directory: Path,
    files: Iterable[str],
    output: Path,
    config: Release,
    sources: Path = SOURCES,
    *,
    delete_others: bool = False,
) -> list[str]:
    """Write release.json from the `.json` files beside the downloads and return lines to print.

    release.json: `{source, release, date, files, entries, published}`; date: of the latest download; entries: what the
    release notes state, by level; published: what sources.tsv knows about these files, beside what was found. A
    difference is reported, not raised: published counts are other people's. delete_others: delete downloads of earlier
    options, unless another run shares the directory. Raises UserError when a download is missing or has changed, when a
    release note states no count, or when the files are of different releases.
    """
    files = list(files)
    facts = [_facts(directory, name) for name in files]
    facts[:0] = [_own_file(Path(path), Path(path).name) for path in config.own_files]
    if config.is_data_set:
        facts[:0] = _data_set(directory, config)
    releases = sorted({entry["release"] for entry in facts if entry["release"]})
    if len(releases) > 1:
        listed = ", ".join(f"{entry['file']} {entry['release']}" for entry in facts if entry["release"])
        raise UserError(
            f"files of different releases: {listed}", where=directory, fix="delete the older files and run it again"
        )
    release = releases[0] if releases else config.name
    levels = [level for entry in facts if (level := parse_release_note(entry["file"]))]
    entries = {level: read_note(directory / release_note(level), level).entries for level in levels}
    published = _compare(release, facts, entries, sources)
    write_json(
        output,
        {
            "source": config.source,
            "release": release,
            **({"dataset": {"id": config.dataset, "revision": config.revision}} if config.is_data_set else {}),
            "date": max((entry["date"] for entry in facts), default=None),
            "files": facts,
            "entries": entries,
            "published": published,
        },
    )
    lines = []
    for known in published:
        agrees = "as published" if known["found"] == known["published"] else f"published: {known['published']}"
        lines.append(f"{known['file']}: {known['what']} {known['found']} ({agrees}, {known['source']})")
    if delete_others and not runs_sharing(directory, directory.parent.parent):
        keep = [*files, *(facts_of(directory / name).name for name in files), output.name]
        deleted = [path.name for path in delete_stale(directory, "release", keep) if path.suffix != ".json"]
        lines += [f"deleted {name}, which this config does not ask for" for name in deleted]
    total = sum(entry["size"] for entry in facts)
    return [*lines, f"release {release or _unnamed(config)}: {len(facts)} files, {total:,} bytes"]


def _unnamed(config: Release) -> str:
    """What stands in messages for the name of a release."""
    if not config.is_data_set:
        return "(your FASTA)"
    return f"{config.dataset}@{config.revision[:12]}" if config.revision else str(config.dataset)


def _facts(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    facts = read_json(facts_of(path))
    size = path.stat().st_size if path.exists() else None
    if size != facts["size"]:
        problem = "is missing" if size is None else f"has {size:,} bytes, its download had {facts['size']:,}"
        raise UserError(problem, where=path, fix="delete it and its .json and download it again")
    return facts


def _data_set(directory: Path, config: Release) -> list[dict[str, Any]]:
    """Facts about the files of a data set: those of its download, or of a directory of the user's."""
    if config.on_hub:
        found = sorted((directory / DATA_SET).glob("*/*.parquet"))
        if not found:
            raise UserError("no data set", where=directory / DATA_SET, fix="run `unirefine release dataset` first")
        return [_facts(directory / DATA_SET, path.relative_to(directory / DATA_SET).as_posix()) for path in found]
    root = Path(str(config.dataset))
    patterns = [f"{side}/*.parquet" for side in SIDES] if config.source == "parquet" else ["*.db", "*.parquet"]
    paths = sorted(path for pattern in patterns for path in root.glob(pattern))
    if not paths:
        raise UserError("no data set in it", where=root, fix="set release.dataset to its directory")
    return [_own_file(path, path.relative_to(root).as_posix()) for path in paths]


def _own_file(path: Path, name: str) -> dict[str, Any]:
    """Facts about a file of the user's, as a download has them; the date is that of its last change."""
    try:
        with path.open("rb") as handle:
            hashes = hash_file(handle, path.name).result()
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="set release.fasta to your FASTA") from None
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).isoformat(timespec="seconds")
    where = {"file": name, "url": str(path), "asked_url": str(path)}
    return {**where, "release": None, **hashes, "date": changed, "verified_by": None}


def _compare(
    release: str | None, facts: list[dict[str, Any]], entries: dict[str, int], sources: Path
) -> list[dict[str, str]]:
    """Rows of sources.tsv about these files of this release, beside what was found."""
    found = {entry["file"]: {"size": str(entry["size"]), "md5": entry["md5"]} for entry in facts}
    found |= {release_note(level): {"entries": str(count)} for level, count in entries.items()}
    compared: list[dict[str, str]] = []
    if not sources.exists():  # installed without its checkout
        return compared
    with sources.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader((line for line in table if not line.startswith("#")), delimiter="\t"):
            if row["release"] != release or row["file"] not in found:
                continue
            for what, value in found[row["file"]].items():
                other_size = row["size"] and found[row["file"]].get("size", row["size"]) != row["size"]
                if row[what] and not (what == "md5" and other_size):  # sizes differ, so the md5 adds nothing
                    compared.append(
                        {
                            "file": row["file"],
                            "what": what,
                            "found": value,
                            "published": row[what],
                            "source": row["source"],
                        }
                    )
    return compared
