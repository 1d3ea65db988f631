"""Files from their mirrors, tried in turn: a connection that breaks off or is too slow is followed by the next.

`Downloader.stream` goes on with the next mirror from the byte it reached; it gives up after `attempts` rounds over all
mirrors without progress.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import httpx

from unirefine import __version__
from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.progress import human
from unirefine.release.connection import Interrupted, Limits, Refused, host_of, read_from

PROGRESS_BYTES = 1 << 20
"""A connection that brought this much counts as progress: the count of failures starts again."""
MOST_BYTES = 2 << 30
"""Of a file whose size nobody has stated: NCBI's taxonomy has a tenth of it."""
_CONNECT_S = 30.0


class Piece(NamedTuple):
    """Some bytes of a file."""

    position: int
    data: bytes
    asked: str
    """The mirror's URL."""
    url: str
    """Where they came from, after redirects."""
    following: str | None = None
    """Address of the next page, where this is one page of a list."""


class NotFoundError(UserError):
    """Every mirror says that there is no such file: 404."""


class PastEndError(UserError):
    """The mirrors' file ends before the byte that a partial download goes on from."""


@dataclasses.dataclass(slots=True)
class _Mirror:
    url: str
    not_before: float = 0.0
    reason: str = ""
    refused: Refused | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Downloader:
    """Reads files from their mirrors, and retries."""

    stall_seconds: float = 60.0
    """A connection that sends nothing for this long, or has not answered by then, is dropped."""
    minimum_rate: float = 10_000.0
    """A connection that sends fewer bytes per second, averaged over `stall_seconds`, is dropped."""
    attempts: int = 3
    """Rounds over all mirrors without progress before a download fails."""
    backoff_seconds: float = 1.0
    """Pause after the first round over all mirrors; doubles with every further round, up to a minute."""

    @classmethod
    def of(cls, config: Release) -> "Downloader":
        """The downloader that a config asks for."""
        return cls(
            stall_seconds=config.stall_seconds, minimum_rate=config.minimum_rate, attempts=config.attempts
        )  # fmt: skip

    def stream(
        self,
        urls: Sequence[str],
        *,
        what: str,
        start: int = 0,
        size: int | None = None,
        most: int | None = None,
        resumable: bool = True,
    ) -> Iterator[Piece]:
        """Yield the pieces of one file that every one of `urls` serves, from byte `start` to its end.

        size: the file's size where it is known; a mirror with a file of another size is skipped. most: bytes that it
        may have where it is not. Positions are contiguous if `resumable`; otherwise an interrupted file begins again at
        position 0. Raises NotFoundError when no mirror has the file, PastEndError when it ends before `start`, and
        UserError when the mirrors refuse it otherwise or the attempts are used up.
        """
        mirrors = [_Mirror(url) for url in urls]
        position, mark, failures = start, start, 0
        limits = Limits(self.stall_seconds, self.minimum_rate)
        with self._client() as client:
            while True:
                mirror = self._next_mirror(mirrors, failures, what)
                try:
                    for url, chunk, following in read_from(client, mirror.url, position, size, most, limits):
                        yield Piece(position, chunk, mirror.url, url, following)
                        position += len(chunk)
                        if resumable and position - mark >= PROGRESS_BYTES:
                            mark, failures = position, 0
                    return
                except Refused as refusal:
                    mirror.refused, mirror.reason = refusal, str(refusal)
                except Interrupted as interruption:
                    failures += 1
                    mirror.reason = str(interruption)
                    mirror.not_before = time.monotonic() + interruption.wait
                if not resumable:
                    position = 0
                mirrors.remove(mirror)
                mirrors.append(mirror)
                print(f"{what}: {host_of(mirror.url)}: {mirror.reason} (at {human(position, 'B')})", file=sys.stderr)

    def read_small(self, urls: Sequence[str], *, what: str, limit: int = 1 << 20) -> bytes:
        """A whole small file. Raises as `stream` does, and when it is longer than `limit` bytes.

        At `minimum_rate`, which every `stall_seconds` must have, that bounds the time too.
        """
        return self.read_page(urls, what=what, limit=limit)[0]

    def read_page(self, urls: Sequence[str], *, what: str, limit: int = 1 << 20) -> tuple[bytes, str | None]:
        """As `read_small`, with the address of the next page where the file is one page of a list."""
        data, following = bytearray(), None
        for piece in self.stream(urls, what=what, most=limit, resumable=False):
            del data[piece.position :]
            data += piece.data
            following = piece.following
        return bytes(data), following

    def _next_mirror(self, mirrors: list[_Mirror], failures: int, what: str) -> _Mirror:
        """The mirror to try now: the least recently used one that may be asked. Sleeps until there is one."""
        live = [mirror for mirror in mirrors if mirror.refused is None]
        if not live or failures >= self.attempts * len(live):
            reasons = "; ".join(f"{host_of(mirror.url)}: {mirror.reason}" for mirror in mirrors)
            raise _kind_of_failure(mirrors)(
                f"cannot download {what}: {reasons}", fix="check the address, release.mirrors and your network"
            )
        now = time.monotonic()
        if failures and failures % len(live) == 0:
            pause = min(self.backoff_seconds * 2 ** (failures // len(live) - 1), 60.0)
            for mirror in live:
                mirror.not_before = max(mirror.not_before, now + pause)
        mirror = min(live, key=lambda m: max(m.not_before, now))
        if mirror.not_before > now:
            time.sleep(mirror.not_before - now)
        return mirror

    def _client(self) -> httpx.Client:
        connect = min(self.stall_seconds, _CONNECT_S)
        return httpx.Client(
            timeout=httpx.Timeout(self.stall_seconds, connect=connect),
            limits=httpx.Limits(max_keepalive_connections=0),  # each request has a socket that it can break off
            # identity: the file as it is; a .gz must not be decompressed in transit
            headers={"User-Agent": f"unirefine/{__version__}", "Accept-Encoding": "identity"},
        )


def _kind_of_failure(mirrors: list[_Mirror]) -> type[UserError]:
    refusals = [mirror.refused for mirror in mirrors if mirror.refused is not None]
    if any(refusal.past_end for refusal in refusals):
        return PastEndError
    if len(refusals) == len(mirrors) and all(refusal.missing for refusal in refusals):
        return NotFoundError
    return UserError
