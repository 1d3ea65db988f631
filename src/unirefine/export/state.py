"""What an output holds: an export that is complete, one that was interrupted, or files of somebody else's."""

import json
import os
from pathlib import Path
from typing import Any

from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.files.hashes import is_record

FORMAT, FORMAT_VERSION = "unirefine-export", 1
MANIFEST = "export.json"
"""Written last."""
LEDGER = ".export.jsonl"
"""While an export is under way: first its identity, then a line for each file that is complete."""
LOCK = ".lock"
ANOTHER = "choose another --output, or delete it"


def refuse_foreign(output: Path) -> None:
    """Raises UserError unless `output` is missing, empty, or an export."""
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise UserError("exists and is no directory", where=output, fix="choose another --output")
    names = {path.name for path in output.iterdir()}
    others = {name for name in names if name != LOCK and not name.startswith(LEDGER)}
    if others and not names & {MANIFEST, LEDGER}:
        raise UserError("not empty, and no export", where=output, fix="choose another --output")


def finished_files(output: Path, identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`{name, bytes, sha256}` by name of the files that an earlier call has completed. They may have changed since.

    Raises UserError when `output` holds an export of other shards or in another format.
    """
    if (output / MANIFEST).exists():
        manifest = read_json(output / MANIFEST)
        if manifest.get("format") != FORMAT or manifest.get("version") != FORMAT_VERSION:
            raise UserError(f"not of {FORMAT} version {FORMAT_VERSION}", where=output / MANIFEST, fix=ANOTHER)
        _compare(output, {key: manifest.get(key) for key in identity}, identity)
        lines = list(manifest["files"])
    elif (output / LEDGER).exists():
        first, *lines = _lines(output / LEDGER) or [identity]
        _compare(output, first, identity)
    else:
        return {}
    if not is_record(lines):
        raise UserError("its list of files is damaged", where=output, fix=ANOTHER)
    return {line["name"]: line for line in lines}


def _compare(output: Path, found: Any, wanted: dict[str, Any]) -> None:
    if found == wanted:
        return
    same = isinstance(found, dict) and found.get("to") == wanted["to"]
    raise UserError(
        "holds an export of other shards" if same else "holds an export in another format", where=output, fix=ANOTHER
    )


def _lines(path: Path) -> list[Any]:
    """The lines of a ledger up to the first one that a killed process has not finished."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


class Ledger:
    """Appends to the ledger, each line on disk before the next file is named."""

    def __init__(self, output: Path, identity: dict[str, Any], done: list[dict[str, Any]]) -> None:
        """Begin the ledger anew with the files that are known to be complete."""
        self.path = output / LEDGER
        temporary = self.path.with_name(f"{LEDGER}.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in (identity, *done)), encoding="utf-8")
        temporary.replace(self.path)
        self._handle = self.path.open("a", encoding="utf-8")

    def add(self, record: dict[str, Any]) -> None:
        """Note a file that is complete."""
        self._handle.write(json.dumps(record) + "\n")
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Keep the ledger for the next start."""
        self._handle.close()
