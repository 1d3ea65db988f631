"""Bytes over HTTP(S) or from a local file: mirrors tried in turn, a dropped connection resumed where it broke.

A failure is either `Refused` (this mirror does not have the file: 404, another size) or `Interrupted` (worth a retry:
cut connection, stall, 429, 5xx). `Downloader.stream` goes on with the next mirror from the byte it reached; it gives up
after `attempts` rounds over all mirrors without progress.
"""

import contextlib
import dataclasses
import email.utils
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from unirefine import __version__
from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.urls import local_path
from unirefine.progress import human

PROGRESS_BYTES = 1 << 20
"""A connection that brought this much counts as progress: the count of failures starts again."""
LONGEST_WAIT_S = 900.0
_CONNECT_S = 30.0
_READ = 1 << 20


class Piece(NamedTuple):
    """Some bytes of a file: their position in it, and which URL they came from."""

    position: int
    data: bytes
    url: str


class NotFoundError(UserError):
    """Every mirror refused: the file does not exist."""


class Refused(Exception):
    """A mirror does not have the file, and will not have it a minute later."""


class Interrupted(Exception):
    """A transfer broke off or was postponed; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclasses.dataclass(slots=True)
class _Mirror:
    url: str
    not_before: float = 0.0
    reason: str = ""
    refused: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Downloader:
    """Reads files from their mirrors, and retries."""

    stall_seconds: float = 60.0
    """A connection that sends nothing for this long is dropped."""
    attempts: int = 3
    """Rounds over all mirrors without progress before a download fails."""
    backoff_seconds: float = 1.0
    """Pause after the first round over all mirrors; doubles with every further round, up to a minute."""

    @classmethod
    def of(cls, config: Release) -> "Downloader":
        """The downloader that a config asks for."""
        return cls(stall_seconds=config.stall_seconds, attempts=config.attempts)

    def stream(
        self, urls: Sequence[str], *, what: str, start: int = 0, size: int | None = None, resumable: bool = True
    ) -> Iterator[Piece]:
        """Yield the pieces of one file that every one of `urls` serves, from byte `start` to its end.

        size: the file's size where it is known; a mirror with a file of another size is skipped. Positions are
        contiguous if `resumable`; otherwise an interrupted file begins again at position 0.
        Raises NotFoundError when all mirrors refuse, UserError when the attempts are used up.
        """
        mirrors = [_Mirror(url) for url in urls]
        position, mark, failures = start, start, 0
        with self._client() as client:
            while True:
                mirror = self._next_mirror(mirrors, failures, what)
                try:
                    for chunk in _read_from(client, mirror.url, position, size):
                        yield Piece(position, chunk, mirror.url)
                        position += len(chunk)
                        if resumable and position - mark >= PROGRESS_BYTES:
                            mark, failures = position, 0
                    return
                except Refused as refusal:
                    mirror.refused, mirror.reason = True, str(refusal)
                except Interrupted as interruption:
                    failures += 1
                    mirror.reason = str(interruption)
                    mirror.not_before = time.monotonic() + min(interruption.wait, LONGEST_WAIT_S)
                if not resumable:
                    position = 0
                mirrors.remove(mirror)
                mirrors.append(mirror)
                print(f"{what}: {host_of(mirror.url)}: {mirror.reason} (at {human(position, 'B')})", file=sys.stderr)

    def read_small(self, urls: Sequence[str], *, what: str, limit: int = 1 << 20) -> bytes:
        """A whole small file. Raises UserError as `stream` does, or when it is longer than `limit` bytes."""
        data = bytearray()
        for piece in self.stream(urls, what=what, resumable=False):
            del data[piece.position :]
            data += piece.data
            if len(data) > limit:
                raise UserError(f"{what} is longer than {human(limit, 'B')}", where=urls[0], fix="check the address")
        return bytes(data)

    def _next_mirror(self, mirrors: list[_Mirror], failures: int, what: str) -> _Mirror:
        """The mirror to try now: the least recently used one that may be asked. Sleeps until there is one."""
        live = [mirror for mirror in mirrors if not mirror.refused]
        if not live or failures >= self.attempts * len(live):
            reasons = "; ".join(f"{host_of(mirror.url)}: {mirror.reason}" for mirror in mirrors)
            raise (UserError if live else NotFoundError)(
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
            follow_redirects=True,
            # identity: the file as it is; a .gz must not be decompressed in transit
            headers={"User-Agent": f"unirefine/{__version__}", "Accept-Encoding": "identity"},
        )


def host_of(url: str) -> str:
    """A mirror's name in messages: its host, or the path of a local one."""
    return urllib.parse.urlsplit(url).netloc if local_path(url) is None else url


def _read_from(client: httpx.Client, url: str, position: int, size: int | None) -> Iterator[bytes]:
    """The bytes of one connection from `position` on; checks that all of them arrive."""
    path = local_path(url)
    opened = _file(path, position) if path is not None else _response(client, url, position)
    with opened as (total, chunks):
        if size is not None and total is not None and total != size:
            raise Refused(f"has another file, of {total:,} bytes where {size:,} are expected")
        expected = size if size is not None else total
        for chunk in chunks():
            position += len(chunk)
            if expected is not None and position > expected:
                raise Refused(f"sends more than the {expected:,} bytes that are expected")
            yield chunk
    if expected is not None and position < expected:
        raise Interrupted(f"ended after {position:,} of {expected:,} bytes")


@contextlib.contextmanager
def _file(path: Path, position: int) -> Iterator[tuple[int, Callable[[], Iterator[bytes]]]]:
    try:
        handle = path.open("rb")
    except OSError as error:
        raise Refused((error.strerror or str(error)).lower()) from None
    with handle:
        total = handle.seek(0, 2)
        handle.seek(position)
        yield total, lambda: iter(lambda: handle.read(_READ), b"")


@contextlib.contextmanager
def _response(
    client: httpx.Client, url: str, position: int
) -> Iterator[tuple[int | None, Callable[[], Iterator[bytes]]]]:
    """A GET that begins at `position`: (size of the whole file where the server states it, its bytes from there)."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    with contextlib.ExitStack() as stack:
        with _transport_errors(client):
            response = stack.enter_context(client.stream("GET", url, headers=headers))
        _check_status(response)
        length = response.headers.get("Content-Length", "")
        total, skip = (int(length) if length.isdigit() else None), 0
        if response.status_code == 206:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            if first != position:
                raise Interrupted(f"answered bytes from {first:,} when asked from {position:,}")
        else:
            skip = position  # a server without Range sends from the start: drop what we have already

        def chunks() -> Iterator[bytes]:
            left = skip
            with _transport_errors(client):
                for chunk in response.iter_raw():
                    if left:
                        dropped = min(left, len(chunk))
                        left, chunk = left - dropped, chunk[dropped:]
                    if chunk:
                        yield chunk

        yield total, chunks


def _check_status(response: httpx.Response) -> None:
    code = response.status_code
    if code in (200, 206):
        return
    reason = f"{code} {response.reason_phrase}".strip()
    if code in (408, 425, 429) or code >= 500:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        raise Interrupted(reason + (f", asks to wait {wait:.0f} s" if wait else ""), wait)
    raise Refused(reason)


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header, which is a number or a date."""
    if text.isdigit():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _content_range(text: str) -> tuple[int, int | None]:
    """First byte and total of `bytes 100-199/200`."""
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        raise Interrupted(f"answered a range with Content-Range {text!r}")
    return int(first), int(total) if total.isdigit() else None


@contextlib.contextmanager
def _transport_errors(client: httpx.Client) -> Iterator[None]:
    """Turn httpx's exceptions into Refused (no retry) or Interrupted (retry)."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise Refused(str(error)) from None
    except httpx.ReadTimeout:
        raise Interrupted(f"sent nothing for {client.timeout.read:g} s") from None
    except httpx.TransportError as error:
        raise Interrupted(str(error) or type(error).__name__) from None
