"""UniRef50 and UniRef90 XML out of the one tarball of an older release, which is streamed and never stored.

The tarball (169 GB for 2021_04) is one gzip stream with uniref100 first and uniref50 last. Its bytes pass through
MD5, inflate and a tar walk; only the wanted files reach the disk. Every GiB the state of all three is saved between
two deflate blocks, so that a killed extraction goes on there, and the tarball's md5 is verified all the same.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, BinaryIO

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import fsync_directory, read_json, write_json
from unirefine.progress import human, meter
from unirefine.release import sources, transport
from unirefine.release.files import SPARE_BYTES, Hasher, check_space, describe, hash_file, locked, write_faults_told
from unirefine.release.inflate import Boundary, Inflater
from unirefine.release.md5 import ResumableMD5
from unirefine.release.sources import Origin
from unirefine.release.tarwalk import TarWalker
from unirefine.release.transport import Patience

LEVELS = ("uniref90", "uniref50")
WANTED = tuple(f"{level}.{kind}" for level in LEVELS for kind in ("xml.gz", "release_note"))
CHECKPOINT_BYTES = 1 << 30
LEAST_SHARE = 0.25
"""UniRef90 and UniRef50 are at least so much of the tarball. An estimate on the safe side: each lists all members, as
UniRef100 does, and they have somewhat less than half and a sixth of its entries, which makes 38%."""


def extract(
    directory: Path, config: Release, patience: Patience | None = None, *, checkpoint_bytes: int = CHECKPOINT_BYTES
) -> list[dict[str, Any]]:
    """Extract `WANTED` into `directory`, each with its `.json`, and return what those hold.

    Raises UserError when the tarball cannot be had, is not what its metalink says, or lacks one of the files.
    """
    patience = patience or sources.patience_of(config)
    directory.mkdir(parents=True, exist_ok=True)
    tarball = f"uniref{config.name}.tar.gz"
    with locked(directory / f"{tarball}.lock"):
        origin = sources.find_archive(config, patience)
        for attempt in range(patience.attempts):
            turn = attempt % len(origin.urls)
            urls = origin.urls[turn:] + origin.urls[:turn]
            extraction = _Extraction(directory, tarball, origin)
            try:
                extraction.run(urls, patience, checkpoint_bytes)
                break
            except ValueError as error:
                fault = str(error)
                print(f"{tarball}: {fault}; what was extracted is deleted", file=sys.stderr)
                extraction.discard()
        else:
            raise UserError(f"{fault}, {patience.attempts} times over", where=tarball, fix="try another mirror")
        return extraction.finish()


class _Extraction:
    """One pass over the tarball, from its start or from the last checkpoint."""

    def __init__(self, directory: Path, tarball: str, origin: Origin) -> None:
        self.directory, self.tarball, self.origin = directory, tarball, origin
        self.checkpoint = directory / f"{tarball}.checkpoint"
        self.position = 0
        self.boundary: Boundary | None = None
        self.md5 = ResumableMD5()
        self.walker = TarWalker([f"{level}.tar" for level in LEVELS], WANTED, self._write)
        self.done: dict[str, dict[str, Any]] = {}
        """Hashes of the files that are complete."""
        self.current: tuple[str, BinaryIO, Hasher] | None = None
        self._restore()

    def run(self, urls: tuple[str, ...], patience: Patience, checkpoint_bytes: int) -> None:
        """Stream what is left of the tarball. Raises ValueError when it is not what it should be."""
        size = self.origin.size
        assert size is not None
        resumed = f" (resumed at {human(self.position, 'B')})" if self.position else ""
        saved = self.position
        left = size - self.position
        pieces = transport.stream(urls, what=self.tarball, patience=patience, start=self.position, size=size)
        with meter(f"{self.tarball}{resumed}", total=left, unit="B") as done, Inflater(self.boundary) as inflater:
            for _, data, _ in pieces if left else ():
                while data:
                    used = self._take(inflater, data, stop=self.position - saved >= checkpoint_bytes)
                    done.advance(used)
                    data = data[used:]
                    if inflater.boundary is not None:
                        self._save(inflater.boundary)
                        saved = self.position
            ended = inflater.ended or not left
        if self.md5.hexdigest() != self.origin.md5:
            raise ValueError(f"md5 is {self.md5.hexdigest()} where {self.origin.authority} says {self.origin.md5}")
        if not ended or not self.walker.complete:
            raise ValueError("ends in the middle of a file")
        missing = [name for name in WANTED if name not in self.done]
        if missing:
            raise UserError(f"has no {', '.join(missing)}; it has {', '.join(self.walker.seen)}", where=self.tarball)
        self._save(None)

    def finish(self) -> list[dict[str, Any]]:
        """Give the verified files their names and describe them."""
        described = []
        for name in WANTED:
            part = self._part(name)
            if part.exists():  # not so if this was killed while finishing
                part.replace(self.directory / name)
            url = f"{self.origin.urls[0]}#{name}"
            facts = describe(name, url, self.origin.release, self.done[name])
            write_json(self.directory / f"{name}.json", facts)
            described.append(facts)
        fsync_directory(self.directory)
        self.checkpoint.unlink()
        return described

    def discard(self) -> None:
        """Delete everything that this extraction has written."""
        if self.current is not None:
            self.current[1].close()
        for name in WANTED:
            self._part(name).unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)

    def _take(self, inflater: Inflater, data: bytes, stop: bool) -> int:
        """Run bytes of the tarball through MD5, inflate and the tar walk; return how many were used."""
        taken = 0
        for used, content in inflater.inflate(data, stop_at_block=stop):
            self.md5.update(memoryview(data)[taken : taken + used])
            self.walker.feed(content)
            taken += used
            self.position += used
        return taken

    def _write(self, name: str, size: int, data: bytes) -> None:
        if self.current is None or self.current[0] != name:
            check_space(self.directory, size, name)
            self.current = name, self._part(name).open("wb"), Hasher()
        _, handle, hasher = self.current
        with write_faults_told(name, hasher.size):
            handle.write(data)
        hasher.update(data)
        if hasher.size == size:
            with write_faults_told(name, hasher.size), handle:
                handle.flush()
                os.fsync(handle.fileno())
            self.done[name] = hasher.result()
            self.current = None

    def _save(self, boundary: Boundary | None) -> None:
        """Write the checkpoint; without a boundary it is the one of the end."""
        current = None
        if self.current is not None:
            name, handle, hasher = self.current
            with write_faults_told(name, hasher.size):
                handle.flush()
                os.fsync(handle.fileno())
            current = {"name": name, "size": hasher.size}
        write_json(
            self.checkpoint,
            {
                "md5": self.origin.md5,
                "position": self.position,
                "boundary": boundary.to_json() if boundary is not None else None,
                "hash": self.md5.state(),
                "walker": self.walker.state(),
                "done": self.done,
                "current": current,
            },
        )

    def _restore(self) -> None:
        """Take up the checkpoint, if there is one of this tarball and its files are there."""
        if not self.checkpoint.exists():
            self._check_space()
            return
        state = read_json(self.checkpoint)
        sizes = {name: hashes["size"] for name, hashes in state["done"].items()}
        current = state["current"]
        there = all(size in (_size(self._part(name)), _size(self.directory / name)) for name, size in sizes.items())
        there &= current is None or _size(self._part(current["name"])) >= current["size"]
        if state["md5"] != self.origin.md5 or not there:
            self.discard()
            return
        self.position = state["position"]
        self.boundary = Boundary.from_json(state["boundary"]) if state["boundary"] is not None else None
        self.md5 = ResumableMD5.restore(state["hash"])
        self.walker.restore(state["walker"])
        self.done = state["done"]
        if current is not None:
            print(f"{current['name']}: reading {human(current['size'], 'B')} that are there", file=sys.stderr)
            handle = self._part(current["name"]).open("rb+")
            handle.truncate(current["size"])
            self.current = current["name"], handle, hash_file(handle)

    def _check_space(self) -> None:
        """The sizes inside are not known yet: stop if even the least does not fit, warn if the whole would not."""
        size, free = self.origin.size, shutil.disk_usage(self.directory).free
        assert size is not None
        check_space(
            self.directory, round(LEAST_SHARE * size), f"UniRef90 and UniRef50 of {self.tarball}, at the least,"
        )
        if free < size + SPARE_BYTES:
            print(
                f"{self.tarball}: {human(free, 'B')} free in {self.directory}; UniRef90 and UniRef50 are a part of its "
                f"{human(size, 'B')}, and will be checked when their sizes are known",
                file=sys.stderr,
            )

    def _part(self, name: str) -> Path:
        return self.directory / f"{name}.part"


def _size(path: Path) -> int:
    """Size of a file; -1 if it is not there."""
    return path.stat().st_size if path.exists() else -1
