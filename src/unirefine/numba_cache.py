"""Where numba keeps compiled code when neither the source tree nor the user's cache can be written.

numba caches beside the source, else in the user's cache directory, and fails at import when it can write neither: in an
image with a read-only file system, or as a user without a home. It is told of a third directory then, below TMPDIR.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
"""numba's own environment variable; what the user has set stays."""


def choose(package: Path, user_cache: Path | None = None) -> None:
    """Set VARIABLE to a directory below TMPDIR, unless it is set or numba's own places can be written.

    package: the directory of the source. user_cache: where numba looks next; None: that of this user. Other processes
    of the same user find the same directory. Must be called before numba is imported.
    """
    if os.environ.get(VARIABLE):
        return
    if all(_can_write(path / "__pycache__") for path in (package / "core", package / "dataset")):
        return
    user_cache = user_cache or _user_cache()
    if user_cache is not None and _can_write(user_cache):
        return
    with contextlib.suppress(OSError):  # where nothing can be written, numba says so
        os.environ[VARIABLE] = str(_own_directory(Path(tempfile.gettempdir())))


def _user_cache() -> Path | None:
    """numba's directory in the user's cache; None for a user without a home."""
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "numba"
    return None


def _can_write(directory: Path) -> bool:
    """Whether a file can be created in a directory, which is created if need be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _own_directory(parent: Path) -> Path:
    """`<parent>/unirefine-numba-<user id>`, or a new directory where that is not ours alone.

    numba's cache files are pickles: whoever can write them runs code as this user.
    """
    path = parent / f"unirefine-numba-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return path
    return Path(tempfile.mkdtemp(prefix="unirefine-numba-", dir=parent))
