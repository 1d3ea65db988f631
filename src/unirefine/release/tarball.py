"""Files out of a release's tarball: tars inside one gzip stream, which `core.tars` reads without trust."""

import os
import tarfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unirefine.core.tars import BadTar, Content, files
from unirefine.files.atomic import CHUNK
from unirefine.progress import meter
from unirefine.release.files import Hasher, check_space, clear_write_errors

EXPANSION = 2
"""A tarball of gzip files hardly shrinks when it is compressed: its content is at most this many times its size."""
SLACK_BYTES = 64 << 20
"""What the content may have besides, so that the padding of a small tar fits."""
_FULL_DISK = "free some space and run it again: the tarball is kept"


def extract(
    tarball: Path, output: Path, wanted: Collection[str], inner_tars: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Write the files of `tarball` called one of `wanted` to the directory `output`, fsynced; return their hashes.

    wanted, inner_tars: names without directories. Tars called one of `inner_tars` are read too, their other files and
    all other tars are skipped. The whole gzip stream is verified. Raises BadTar, UserError when the disk is full.
    """
    found: dict[str, dict[str, Any]] = {}
    size = tarball.stat().st_size
    with (
        tarball.open("rb", buffering=0) as file,
        meter(f"{tarball.name}: extract", total=size, unit="B") as progress,
    ):
        content = Content(
            file, EXPANSION * size + SLACK_BYTES, lambda position: progress.advance(position - progress.done)
        )
        try:
            for member, data in files(content, content, inner_tars):
                name = PurePosixPath(member.name).name
                if name not in wanted:
                    continue
                if name in found:
                    raise BadTar(f"has {name} twice")
                if member.size == 0:
                    raise BadTar(f"has an empty {name}")
                check_space(output, member.size, name)
                found[name] = _write(data, output / name)
        except tarfile.TarError as error:
            raise BadTar(f"ends in the middle of a file ({error})") from None
        while content.read(CHUNK):  # gzip's checksum comes last
            pass
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BadTar(f"has no {', '.join(missing)}; it has {', '.join(content.names[:20])}")
    return found


def _write(data: IO[bytes], path: Path) -> dict[str, Any]:
    """Write a file and fsync it; return its hashes."""
    hasher = Hasher()
    with path.open("wb") as file:
        while piece := data.read(CHUNK):
            with clear_write_errors(path.name, hasher, _FULL_DISK):
                file.write(piece)
            hasher.update(piece)
        with clear_write_errors(path.name, hasher, _FULL_DISK):
            file.flush()
            os.fsync(file.fileno())
    return hasher.result()
