"""SHA-256 of files and of JSON values, and the files of a directory compared with what was recorded of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON (sorted keys, no spaces), which identifies a config."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(directory: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """`{name, bytes, sha256}` of files in a directory."""
    return [
        {"name": name, "bytes": (directory / name).stat().st_size, "sha256": sha256_file(directory / name)}
        for name in names
    ]


def is_record(files: Any) -> bool:
    """Whether a value read from JSON is what `recorded` returns, of files inside the directory."""
    return isinstance(files, list) and all(
        isinstance(file, dict)
        and isinstance(file.get("name"), str)
        and isinstance(file.get("bytes"), int)
        and isinstance(file.get("sha256"), str)
        and not PurePosixPath(file["name"]).is_absolute()
        and ".." not in PurePosixPath(file["name"]).parts
        for file in files
    )


def first_change(directory: Path, files: Sequence[Mapping[str, Any]], *, threads: int = 1) -> tuple[str, str] | None:
    """(name, what is wrong with it) of the first file that is not as `recorded` saw it; None when all are.

    Compares all sizes before it reads a file.
    """
    for file in files:
        if wrong := wrong_size(directory, file):
            return file["name"], wrong
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda file: sha256_file(directory / file["name"]), files)
        for file, digest in zip(files, found, strict=True):
            if digest != file["sha256"]:
                return file["name"], "its content is not what was written (SHA-256 differs)"
    return None


def wrong_size(directory: Path, file: Mapping[str, Any]) -> str | None:
    """In words that a recorded file is missing or has another size; None when it has its size."""
    try:
        size = (directory / file["name"]).stat().st_size
    except FileNotFoundError:
        return "missing"
    return None if size == file["bytes"] else f"{size:,} bytes instead of {file['bytes']:,}"
