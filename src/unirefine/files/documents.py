"""The JSON files of a run: read in one place, checked for damage, for the types of their values and for missing keys.

Each file that a stage writes ends with a checksum of its content, so a flipped digit is found. Files of older versions
have none; of them, and of files that somebody has edited, types and keys are checked.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from unirefine.errors import UserError
from unirefine.files.document_types import KINDS, Download
from unirefine.files.hashes import sha256_json

CHECKSUM = "checksum"
"""Last key of a JSON file: SHA-256 of the rest of it (see `sha256_json`)."""
FORMATS_OF_OTHERS = {
    "config.json", "model.safetensors.index.json", "special_tokens_map.json", "tokenizer_config.json",
}  # fmt: skip
"""Hugging Face's files, which users may edit."""
_STAGES = (
    "release", "records", "curate", "cluster", "split", "decontaminate", "shard", "train", "evaluate", "embed",
)  # fmt: skip


class Document(dict):
    """An object of a JSON file. A key that is asked for and is not there raises UserError, which names the file."""

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), path: Path | None = None) -> None:
        """path: the file; None for a copy that others make of the class, as dataclasses.asdict does."""
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> Any:
        if self._path is None:
            raise KeyError(key)
        raise UserError(f"it has no {key!r}", where=self._path, fix=_again(self._path))


def with_checksum(value: Any, path: Path) -> Any:
    """What is written to `path`: an object with its checksum as the last key; another value, and those of
    FORMATS_OF_OTHERS, as they are.
    """
    if not isinstance(value, dict) or path.name in FORMATS_OF_OTHERS:
        return value
    value = {key: each for key, each in value.items() if key != CHECKSUM}
    return {**value, CHECKSUM: sha256_json(value)}


def parse(text: str, path: Path) -> Any:
    """The value in the text of a JSON file, without its checksum; its objects are of class Document.

    path: where the text is from; its name decides which types the values must have. Raises UserError when the text is
    not JSON, when it is not what was written, and when a value has another type.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({error})", where=path, fix=_again(path)) from None
    if isinstance(value, dict) and CHECKSUM in value:
        stated = value.pop(CHECKSUM)
        if stated != sha256_json(value):
            raise UserError("its content is not what was written (checksum)", where=path, fix=_again(path))
    _check_types(value, path)
    return _documents(value, path)


def read_lines(path: Path, *, sha256: str | None = None, torn: bool = False) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl: objects with a whole number `step` and further numbers.

    sha256: of the file, where it is known. torn: leave out a last line that is incomplete, as a killed run leaves it.
    Raises UserError, with the line, when the file is missing or damaged.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError("no such file", where=path, fix="run the train stage") from None
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise UserError("its content is not what was written (SHA-256 differs)", where=path, fix=_again(path))
    lines = raw.decode("utf-8", "replace").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_metrics(line))
        except (ValueError, RecursionError) as error:
            if torn and number == len(lines):
                break
            raise UserError(f"not a line of metrics ({error})", where=f"{path}:{number}", fix="delete it") from None
    return found


def set_names(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the further validation sets (`train.validation`) that lines of metrics have losses of, sorted."""
    keys = {key for line in lines for key in line}
    return sorted(key.partition("/")[2] for key in keys if key.startswith("validation_loss/"))


def _metrics(line: str) -> dict[str, Any]:
    """One line of metrics. Raises ValueError."""
    value = json.loads(line)
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        raise ValueError("no whole number `step`")
    wrong = next((name for name, each in value.items() if type(each) not in (int, float)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is not a number")
    return value


def _check_types(value: Any, path: Path) -> None:
    """Raise UserError for a value of another type than the file's name promises."""
    kind = KINDS.get(path.name, Download if _is_beside_a_file(path) else None)
    if kind is None:
        return
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = f"{key}: {first['msg']}" if key else f"not an object ({first['msg']})"
        raise UserError(f"not what this version writes: {what}", where=path, fix=_again(path)) from None


def _is_beside_a_file(path: Path) -> bool:
    """Whether it has the facts of a download, as uniref50.xml.gz.json has."""
    return bool(Path(path.stem).suffix)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _documents(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return Document({key: _documents(each, path) for key, each in value.items()}, path)
    return [_documents(each, path) for each in value] if isinstance(value, list) else value


def _again(path: Path) -> str:
    """What to do about a damaged file: the stage whose directory it is in writes it again."""
    stage = next((part for part in reversed(path.parts[:-1]) if part in _STAGES), None)
    if stage is None and _is_beside_a_file(path):
        stage = "release"
    if stage is None:
        return "restore it, or make it again"
    return f"delete it and run the {stage} stage again"
