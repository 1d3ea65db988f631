"""Room on the disk, asked before something large is written."""

import shutil
from pathlib import Path

from unirefine.errors import UserError
from unirefine.progress import human


def require_space(directory: Path, needed: int, what: str, fix: str, *, spare: int = 0) -> None:
    """Raise UserError unless `needed` and `spare` bytes are free on the disk of `directory`.

    what: what needs them. fix: what the user may do, beside freeing some space.
    """
    free = shutil.disk_usage(directory).free
    if free < needed + spare:
        extra = f" (and {human(spare, 'B')} to spare)" if spare else ""
        raise UserError(
            f"{what} needs {human(needed, 'B')}{extra}; the disk has {human(free, 'B')} free",
            where=directory,
            fix=f"free some space or {fix}",
        )
