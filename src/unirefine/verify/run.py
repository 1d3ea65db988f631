"""Compare what lies in a directory with what was recorded when it was written."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unirefine.core import parquet
from unirefine.dataset.verify import verify_shards
from unirefine.errors import UserError, no_directory
from unirefine.files import lineage
from unirefine.files.atomic import read_json
from unirefine.files.hashes import first_change, is_record
from unirefine.progress import human

AGAIN = "run its stage again"
GIVE = "give shards, a checkpoint, final/, a Hugging Face directory, an export, or the directory of a stage"
Check = Callable[[], str]


def run(path: Path, *, threads: int = 2, report: Callable[[str], None] = print) -> None:
    """Verify shards, an export, a checkpoint, `final/`, a Hugging Face directory, a training, or a stage's directory.

    report: is called with one line for each thing that was checked. threads: files that are hashed at a time. Raises
    UserError for what is damaged, after all is checked, and for a directory with nothing to verify.
    """
    if not path.is_dir():
        raise UserError(no_directory(path), where=path, fix=GIVE)
    checks = list(_checks(path, threads))
    if not checks:
        raise UserError("nothing in it that was recorded", where=path, fix=GIVE)
    damaged: list[UserError] = []
    for directory, check in checks:
        try:
            report(f"{directory}: {check()}")
        except UserError as error:
            damaged.append(error)
            report(f"{directory}: DAMAGED: {error.line()}")
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        raise UserError(f"{len(damaged)} of {len(checks)} are damaged, the first: {damaged[0].line()}", where=path)


def _checks(path: Path, threads: int) -> Iterator[tuple[Path, Check]]:
    """(directory, function that checks it and returns what it found in words)."""
    if (path / "manifest.json").exists():
        yield path, lambda: _shards(path, threads)
    elif (path / "export.json").exists():
        yield path, lambda: _export(path, threads)
    elif (path / "complete.json").exists():
        yield path, lambda: _checkpoint(path)
    elif (path / "config.json").exists() or any(path.glob("*.safetensors*")):
        yield path, lambda: _huggingface(path, threads)
    elif (path / "megatron").is_dir() or (path / "huggingface").is_dir():  # final/
        yield path, lambda: _listed(path, threads)
        for layout in (path / "megatron", path / "huggingface"):
            yield from _checks(layout, threads)
    elif (path / "final").is_dir() or (path / "checkpoints").is_dir():  # a training
        for one in (*sorted((path / "checkpoints").glob("step-*")), path / "final"):
            if one.is_dir():
                yield from _checks(one, threads)
    elif (path / lineage.FILE).exists() or any(path.rglob("*.parquet")):
        yield path, lambda: _stage(path)


def _shards(path: Path, threads: int) -> str:
    files, size = verify_shards(path, threads=threads)
    return f"shards, {files} files, {human(size, 'B')}: all match the manifest"


def _checkpoint(path: Path) -> str:
    from unirefine.megatron import plain_pickle

    from unirefine.model import checkpoint

    if wrong := checkpoint.problem(path):
        raise UserError(wrong, where=path, fix=checkpoint.ANOTHER)
    plain_pickle.read_metadata(path)
    plain_pickle.check_common(path)
    files = checkpoint.read(path).get("files")
    if files is None:
        return (
            "checkpoint of an earlier version, which recorded no hashes; its pickles hold tensors and plain values only"
        )
    return f"checkpoint, {_counted(files)}: all as they were written"


def _huggingface(path: Path, threads: int) -> str:
    import unirefine.megatron  # noqa: F401 - before Megatron

    from unirefine.model.huggingface import HuggingfaceFiles

    files = HuggingfaceFiles(path, head=False)
    if wrong := files.not_finite():
        raise UserError(wrong, where=path, fix="get the model again")
    agree = "config, vocabulary and tensors agree"
    if not (path / lineage.FILE).exists():
        return f"Hugging Face directory: {agree}; it has no lineage.json, so nothing says what its bytes were"
    return f"Hugging Face directory, {_listed(path, threads)}; {agree}"


def _export(path: Path, threads: int) -> str:
    listed = path / "export.json"
    return f"export, {_compared(path, read_json(listed).get('files', []), listed, threads)}"


def _listed(path: Path, threads: int) -> str:
    """Compare the files that a lineage lists."""
    return _compared(path, lineage.read(path).get("files", []), path / lineage.FILE, threads)


def _compared(path: Path, files: Any, listed: Path, threads: int) -> str:
    """Compare files below a directory with what `listed` records of them."""
    if not is_record(files):
        raise UserError("its list of files is not one of names, sizes and hashes", where=listed, fix=AGAIN)
    if change := first_change(path, files, threads=threads):
        raise UserError(change[1], where=path / change[0], fix=AGAIN)
    return f"{_counted(files)}: all as they were written"


def _stage(path: Path) -> str:
    """Read every Parquet and JSON file below a directory."""
    if (path / lineage.FILE).exists():
        lineage.read(path)
    tables = rows = unchecked = 0
    for file in sorted(path.rglob("*.parquet")):
        if any(part.startswith(".") for part in file.relative_to(path).parts):
            continue  # of a stage that runs
        with parquet.File(file, AGAIN) as table:
            rows += sum(len(batch) for batch in table.iter_batches(1 << 17))
            unchecked += not table.has_checksums
        tables += 1
    for file in sorted(path.rglob("*.json")):
        read_json(file)
    text = f"{tables} Parquet files, {rows:,} rows: all pages match their checksums"
    return f"{text}, but {unchecked} files have none" if unchecked else text


def _counted(files: list[dict]) -> str:
    return f"{len(files)} files, {human(sum(file['bytes'] for file in files), 'B')}"
