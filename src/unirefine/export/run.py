"""Export the shards of a run: plan the files, write those that are missing, and what describes them last."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from unirefine.dataset import open_shards
from unirefine.dataset.verify import verify_shards
from unirefine.errors import UserError, no_directory
from unirefine.export import state
from unirefine.export.blocks import Block
from unirefine.export.formats import FORMATS, Format
from unirefine.export.plan import File, open_sides
from unirefine.files import lineage, locks
from unirefine.files.atomic import atomic_path, write_json
from unirefine.files.hashes import first_change, recorded, sha256_file
from unirefine.files.space import require_space
from unirefine.files.stages import shards_of
from unirefine.progress import meter

_RESERVE = 16 << 20
"""Bytes for the small files, and for the blocks of the file system."""


class Exported(NamedTuple):
    """What a call has done."""

    sides: dict[str, dict[str, int]]
    """`{documents, sequences, tokens, ...}` of each side."""
    files: int
    kept: int
    """Files that an earlier call had completed."""
    size: int
    """Bytes of all files."""


def run(shards: Path, output: Path, to: str, *, threads: int = 1) -> Exported:
    """Write the sequences of all sides in the format `to`, a key of FORMATS.

    shards: a directory of shards, or of a run (`results/demo`). The shards are hashed first. The files depend on the
    shards alone, not on threads or on how often the export was interrupted: a file appears under its name when it is
    complete, and a later call verifies those that are there and writes the others. `export.json` is written last.

    Raises UserError when there are no such shards, when they are damaged, when `output` has files of somebody else's or
    another export, and when the disk is too small.
    """
    directory = _shards_of(shards)
    state.refuse_foreign(output)
    opened = open_shards(directory)
    identity = {"to": to, "shards": sha256_file(directory / "manifest.json")}
    with locks.exclusive(output / state.LOCK, wait=False):
        done = state.finished_files(output, identity)
        sides = open_sides(opened.sides)
        files = FORMATS[to].files(sides)
        whole = _unchanged(output, done, threads)
        kept = [whole[file.name] for file in files if file.name in whole]
        missing = [file for file in files if file.name not in whole]
        if missing:
            require_space(output, _bytes_of(FORMATS[to], missing), "the export", "choose an --output on a larger disk")
            verify_shards(directory, threads=threads)
        ledger = state.Ledger(output, identity, kept)
        (output / state.MANIFEST).unlink(
            missing_ok=True
        )  # from here on it is the ledger that says whose files these are
        try:
            records = {record["name"]: record for record in kept}
            for record in _written(missing, output, threads):
                ledger.add(record)
                records[record["name"]] = record
        finally:
            ledger.close()
        facts = {"manifest": opened.manifest, "lineage": _lineage(directory), "name": _name_of(directory, output)}
        for name, content in FORMATS[to].last(files, records, facts).items():
            with atomic_path(output / name) as temporary:
                temporary.write_bytes(content)
            records |= {record["name"]: record for record in recorded(output, [name])}
        _finish(output, identity, opened.manifest["sides"], list(records.values()), facts["lineage"])
        ledger.path.unlink()
    return Exported(opened.manifest["sides"], len(records), len(kept), sum(each["bytes"] for each in records.values()))


def _shards_of(path: Path) -> Path:
    """The directory of shards that a user means."""
    if not path.is_dir():
        raise UserError(no_directory(path), where=path, fix="give the shards of a run, as in results/demo/shard")
    found = shards_of(path)
    if not (found / "manifest.json").exists():
        raise UserError(
            "no manifest.json, so the shards are not there or not complete", where=path, fix="run `snakemake shard`"
        )
    return found


def _name_of(directory: Path, output: Path) -> str:
    """What the export is called: as its run."""
    return directory.resolve().parent.name or output.name


def _lineage(directory: Path) -> dict[str, Any] | None:
    """The lineage of the shards; None where they have none."""
    return lineage.read(directory) if (directory / lineage.FILE).exists() else None


def _bytes_of(form: Format, files: Iterable[File]) -> int:
    """Upper estimate of the disk space that files of a format take."""
    return _RESERVE + sum(
        int(file.residues * form.bytes_a_residue) + file.sequences * form.bytes_a_sequence for file in files
    )


def _unchanged(output: Path, done: dict[str, dict[str, Any]], threads: int) -> dict[str, dict[str, Any]]:
    """Those of the recorded files that are still what was written, by name."""
    with ThreadPoolExecutor(threads) as pool:
        changes = pool.map(lambda record: first_change(output, [record]), done.values())
        return {name: record for (name, record), change in zip(done.items(), changes, strict=True) if not change}


class _Stopped(Exception):
    """Another thread has failed, or the user has pressed Ctrl-C."""


def _written(files: list[File], output: Path, threads: int) -> Iterator[dict[str, Any]]:
    """Write files; yields `{name, bytes, sha256}` of each as soon as it is complete, in any order."""
    stop, lock = threading.Event(), threading.Lock()
    total = sum(file.residues for file in files)
    with meter("export", total=total, unit=" residues") as progress, ThreadPoolExecutor(threads) as pool:

        def advance(residues: int) -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                progress.advance(residues)

        jobs = [pool.submit(_write, file, output, advance) for file in files]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _write(file: File, output: Path, advance: Callable[[int], None]) -> dict[str, Any]:
    def counted() -> Iterator[Block]:
        for block in file.blocks():
            yield block
            advance(block.residues)

    with atomic_path(output / file.name) as temporary:
        file.write(file, temporary, counted())
        (record,) = recorded(temporary.parent, [temporary.name])
    return {**record, "name": file.name}


def _finish(
    output: Path, identity: dict[str, Any], sides: dict[str, Any], files: list[dict[str, Any]],
    origin: dict[str, Any] | None,
) -> None:  # fmt: skip
    """Write lineage.json, where the shards have one, and export.json."""
    files = sorted(files, key=lambda file: file["name"])
    if origin is not None:
        write_json(output / lineage.FILE, {**origin, "of": "export", "files": files})
    write_json(
        output / state.MANIFEST,
        {"format": state.FORMAT, "version": state.FORMAT_VERSION, **identity, "sides": sides, "files": files},
    )
