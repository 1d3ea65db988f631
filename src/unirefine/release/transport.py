"""Bytes over HTTP(S) or from a local file: mirrors tried in turn, a dropped connection resumed where it broke.

A failure is either `Refused` (this mirror does not have the file: 404, another size) or `Interrupted` (worth
another try: cut connection, stall, 429, 5xx). `stream` goes on with the next mirror from the byte it reached;
it gives up after `attempts` rounds over all mirrors without progress.
"""

import contextlib
import dataclasses
import email.utils
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from unirefine import __version__
from unirefine.errors import UserError
from unirefine.progress import human

PROGRESS_BYTES = 1 << 20
"""A connection that brought this much counts as progress: the count of failures starts again."""
LONGEST_WAIT_S = 900.0
_CONNECT_S = 30.0
_READ = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a download goes on trying."""

    stall_seconds: float = 60.0
    attempts: int = 3
    backoff_seconds: float = 1.0
    """Pause after the first round over all mirrors; doubles with every further round, up to a minute."""


class Piece(NamedTuple):
    """Some bytes of a file: their position in it, and which URL they came from."""

    position: int
    data: bytes
    url: str


class NowhereError(UserError):
    """Every mirror refused: the file does not exist."""


class Refused(Exception):
    """A mirror does not have the file, and will not have it a minute later."""


class Interrupted(Exception):
    """A transfer broke off or was put off; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclasses.dataclass(slots=True)
class _Mirror:
    url: str
    not_before: float = 0.0
    reason: str = ""
    refused: bool = False


def local_path(url: str) -> Path | None:
    """The local file that a `file:` URL (absolute or relative) or a plain path names; None for http and https.

    Raises UserError for any other scheme.
    """
    scheme, separator, rest = url.partition(":")
    if scheme in ("http", "https"):
        return None
    if scheme == "file":
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path if rest.startswith("//") else rest))
    if separator and rest.startswith("//"):
        raise UserError(f"cannot download over {scheme}, only over https, http or from a file: URL", where=url)
    return Path(url)


def host_of(url: str) -> str:
    """What names a mirror in a message: its host, or the path of a local one."""
    return urllib.parse.urlsplit(url).netloc if local_path(url) is None else url


def stream(
    urls: Sequence[str], *, what: str, patience: Patience,
    start: int = 0, size: int | None = None, resumable: bool = True,
) -> Iterator[Piece]:  # fmt: skip
    """Yield the pieces of one file that every one of `urls` serves, from byte `start` to its end.

    size: the file's size where it is known; a mirror with a file of another size is passed over. Positions are
    contiguous if `resumable`; otherwise an interrupted file begins again at position 0.
    Raises NowhereError when all mirrors refuse, UserError when the patience is at its end.
    """
    mirrors = [_Mirror(url) for url in urls]
    position, mark, failures = start, start, 0
    with _client(patience) as client:
        while True:
            mirror = _next_mirror(mirrors, failures, what, patience)
            try:
                for chunk in _read_from(client, mirror.url, position, size, patience):
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


def read_small(urls: Sequence[str], *, what: str, patience: Patience, limit: int = 1 << 20) -> bytes:
    """A whole small file. Raises UserError as `stream` does, or when it is longer than `limit` bytes."""
    data = bytearray()
    for piece in stream(urls, what=what, patience=patience, resumable=False):
        del data[piece.position :]
        data += piece.data
        if len(data) > limit:
            raise UserError(f"{what} is longer than {human(limit, 'B')}", where=urls[0], fix="check the address")
    return bytes(data)


def _next_mirror(mirrors: list[_Mirror], failures: int, what: str, patience: Patience) -> _Mirror:
    """The mirror to try now: the longest unused of those not put off; sleeps where there is none yet."""
    live = [mirror for mirror in mirrors if not mirror.refused]
    if not live or failures >= patience.attempts * len(live):
        told = "; ".join(f"{host_of(mirror.url)}: {mirror.reason}" for mirror in mirrors)
        raise (UserError if live else NowhereError)(
            f"cannot download {what}: {told}", fix="check the address, release.mirrors and your network"
        )
    now = time.monotonic()
    if failures and failures % len(live) == 0:
        pause = min(patience.backoff_seconds * 2 ** (failures // len(live) - 1), 60.0)
        for mirror in live:
            mirror.not_before = max(mirror.not_before, now + pause)
    mirror = min(live, key=lambda m: max(m.not_before, now))
    if mirror.not_before > now:
        time.sleep(mirror.not_before - now)
    return mirror


def _read_from(client: httpx.Client, url: str, position: int, size: int | None, patience: Patience) -> Iterator[bytes]:
    """The bytes of one connection from `position` on; checks that they are all there."""
    path = local_path(url)
    opened = _file(path, position) if path is not None else _response(client, url, position, patience)
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
    client: httpx.Client, url: str, position: int, patience: Patience
) -> Iterator[tuple[int | None, Callable[[], Iterator[bytes]]]]:
    """A GET that begins at `position`: (size of the whole file if told, its bytes from there)."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    with contextlib.ExitStack() as stack:
        with _transport_errors(patience):
            response = stack.enter_context(client.stream("GET", url, headers=headers))
        _check_status(response)
        length = response.headers.get("Content-Length", "")
        total, skip = (int(length) if length.isdigit() else None), 0
        if response.status_code == 206:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            if first != position:
                raise Interrupted(f"answered bytes from {first:,} when asked from {position:,}")
        else:
            skip = position  # a server without Range: what is already here is read again and dropped

        def chunks() -> Iterator[bytes]:
            left = skip
            with _transport_errors(patience):
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
def _transport_errors(patience: Patience) -> Iterator[None]:
    """Tell httpx's exceptions apart: worth another try, or not."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise Refused(str(error)) from None
    except httpx.ReadTimeout:
        raise Interrupted(f"sent nothing for {patience.stall_seconds:g} s") from None
    except httpx.TransportError as error:
        raise Interrupted(str(error) or type(error).__name__) from None


def _client(patience: Patience) -> httpx.Client:
    connect = min(patience.stall_seconds, _CONNECT_S)
    return httpx.Client(
        timeout=httpx.Timeout(patience.stall_seconds, connect=connect),
        follow_redirects=True,
        # identity: the file as it is; a .gz must not be unpacked on the way
        headers={"User-Agent": f"unirefine/{__version__}", "Accept-Encoding": "identity"},
    )
