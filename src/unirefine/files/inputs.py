"""Files that a user names: they must be there, and be files that can be read more than once."""

import stat
from pathlib import Path

from unirefine.errors import UserError

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def require_file(path: Path | str, fix: str, what: str = "file") -> None:
    """Raises UserError when `path` is missing, a directory, or a pipe or device, which can be read only once.

    fix: what to do about a missing one. what: what it should be, as in `FASTA file`.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise UserError(f"no such {what}", where=path, fix=fix) from None
    if stat.S_ISDIR(mode):
        raise UserError(f"a directory, not a {what}", where=path, fix=fix)
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise UserError(f"{kind}, which can be read only once", where=path, fix="write it to a file and give that")
