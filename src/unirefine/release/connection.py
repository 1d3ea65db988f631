"""One connection to one mirror, over HTTP(S) or to a local file, and nothing that it says is trusted.

A failure is either `Refused` (this mirror will not have the file a minute later: 404, another size, a redirect to plain
http) or `Interrupted` (worth a retry: cut connection, stall, too slow, 429, 5xx).
"""

import contextlib
import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from unirefine.files.urls import local_path
from unirefine.progress import human
from unirefine.release.outside import whole_number
from unirefine.terminal import brief

LONGEST_WAIT_S = 900.0
MOST_REDIRECTS = 10
_READ = 1 << 20


class Refused(Exception):
    """A mirror does not have the file, and will not have it a minute later.

    missing: it says that there is no such file. past_end: it has the file, which ends before the byte asked for.
    """

    def __init__(self, reason: str, *, missing: bool = False, past_end: bool = False) -> None:
        super().__init__(reason)
        self.missing, self.past_end = missing, past_end


class Interrupted(Exception):
    """A transfer broke off or was postponed; `wait`: what the server asked for, in seconds, at most LONGEST_WAIT_S."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = min(wait, LONGEST_WAIT_S)


class Limits(NamedTuple):
    """What a connection must keep to."""

    stall_seconds: float
    """Without a byte, or without the whole head of an answer, for this long: too slow."""
    minimum_rate: float
    """Bytes per second, averaged over `stall_seconds` of waiting: less is too slow."""


class _Opened(NamedTuple):
    url: str
    """After redirects."""
    total: int | None
    """Size of the whole file, where the server states it."""
    chunks: Callable[[], Iterator[bytes]]
    """Its bytes from the position asked for."""
    following: str | None = None
    """Address of the next page, where the answer is one page of a list (header Link)."""


def read_from(
    client: httpx.Client, url: str, position: int, size: int | None, most: int | None, limits: Limits
) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield (address after redirects, bytes, next page) of one connection from `position` on; checks that all arrive.

    size: of the whole file, where it is known. most: bytes that a file of unknown size may have.
    """
    path = local_path(url)
    with _file(url, path, position) if path is not None else _response(client, url, position, limits) as opened:
        if size is not None and opened.total is not None and opened.total != size:
            raise Refused(f"has another file, of {opened.total:,} bytes where {size:,} are expected")
        expected = size if size is not None else opened.total
        if most is not None and expected is not None and expected > most:
            raise Refused(f"is longer than {human(most, 'B')}")
        chunks = opened.chunks()
        # not until the connection ends: what follows the last byte is not waited for
        while (expected is None or position < expected) and (chunk := next(chunks, b"")):
            position += len(chunk)
            if expected is not None and position > expected:
                raise Refused(f"sends more than the {expected:,} bytes that are expected")
            if most is not None and position > most:
                raise Refused(f"is longer than {human(most, 'B')}")
            yield opened.url, chunk, opened.following
    if expected is not None and position < expected:
        raise Interrupted(f"ended after {position:,} of {expected:,} bytes")


def host_of(url: str) -> str:
    """A mirror's name in messages: its host, or the path of a local one; no user or password."""
    if local_path(url) is not None:
        return url
    return brief(url.partition("://")[2].partition("/")[0].rpartition("@")[2])


@contextlib.contextmanager
def _file(url: str, path: Path, position: int) -> Iterator[_Opened]:
    try:
        if not path.is_file() and path.exists():
            raise Refused("is not a plain file")  # a pipe would wait for its writer
        handle = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        missing = isinstance(error, FileNotFoundError)
        raise Refused((getattr(error, "strerror", None) or str(error)).lower(), missing=missing) from None
    with handle:
        total = handle.seek(0, 2)
        handle.seek(position)
        yield _Opened(url, total, lambda: iter(lambda: handle.read(_READ), b""))


@contextlib.contextmanager
def _response(client: httpx.Client, url: str, position: int, limits: Limits) -> Iterator[_Opened]:
    """A GET that begins at `position`."""
    with contextlib.closing(_get(client, url, position, limits)) as response:
        _check_status(response, position)
        length, skip = response.headers.get("Content-Length"), 0
        total = None if length is None else whole_number(length)
        if response.status_code == 206:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            if first != position:
                raise Interrupted(f"answered bytes from {first:,} when asked from {position:,}")
        else:
            skip = position  # a server without Range sends from the start: drop what we have already

        def chunks() -> Iterator[bytes]:
            left = skip
            with _transport_errors(limits):
                for chunk in _paced(response.iter_raw(), limits):
                    if left:
                        dropped = min(left, len(chunk))
                        left, chunk = left - dropped, chunk[dropped:]
                    if chunk:
                        yield chunk

        following = response.links.get("next", {}).get("url")
        address = str(response.url.copy_with(username=None, password=None, fragment=None))
        yield _Opened(address, total, chunks, following)


def _get(client: httpx.Client, url: str, position: int, limits: Limits) -> httpx.Response:
    """The answer after redirects, its body unread. From https they may not lead elsewhere than to https."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    secure = url.startswith("https:")
    for _ in range(MOST_REDIRECTS + 1):
        with _transport_errors(limits), _Guard(limits.stall_seconds) as guard:
            request = client.build_request("GET", url, headers=headers, extensions={"trace": guard.trace})
            response = client.send(request, stream=True)
        if response.next_request is None:
            return response
        response.close()  # whatever it sends along is not read
        target = response.next_request.url
        if secure and target.scheme != "https":
            raise Refused(f"redirects from https to {brief(f'{target.scheme}://{target.host}')}, which is not secure")
        url = str(target)
        secure = target.scheme == "https"
    raise Refused(f"redirects more than {MOST_REDIRECTS} times")


class _Guard:
    """Breaks the connection off when the head of an answer takes too long: httpx limits the wait for each byte only."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._expired = seconds, False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note the socket, which httpx reports when it is connected, and again when it is encrypted."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._expired:
                self._expire()

    def _expire(self) -> None:
        self._expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def __enter__(self) -> "_Guard":
        self._timer.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._timer.cancel()
        if self._expired and isinstance(error, httpx.TransportError):
            raise Interrupted(f"did not answer within {self._seconds:g} s") from None


def _paced(chunks: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    """The chunks; Interrupted when they come too slowly. Time that the reader spends between two does not count."""
    waited, received = 0.0, 0
    while True:
        asked = time.monotonic()
        chunk = next(chunks, None)
        if chunk is None:
            return
        waited, received = waited + time.monotonic() - asked, received + len(chunk)
        if waited >= limits.stall_seconds:
            if received < limits.minimum_rate * waited:
                raise Interrupted(f"sent only {human(received, 'B')} in {waited:.0f} s (release.minimum_rate)")
            waited, received = 0.0, 0
        yield chunk


def _check_status(response: httpx.Response, position: int) -> None:
    code = response.status_code
    if code in (200, 206):
        return
    reason = brief(f"{code} {response.reason_phrase}".strip())
    if code in (408, 425, 429) or code >= 500:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        asks = f"{wait:.0f} s" if wait <= LONGEST_WAIT_S else f"more than {LONGEST_WAIT_S:.0f} s"
        raise Interrupted(f"{reason}, asks to wait {asks}" if wait else reason, wait)
    raise Refused(reason, missing=code == 404, past_end=code == 416 and position > 0)


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 for anything else."""
    if (seconds := whole_number(text)) is not None:
        return float(seconds)
    try:
        return max(email.utils.parsedate_to_datetime(text[:40]).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError, OSError):  # all of them seen for dates of no calendar
        return 0.0


def _content_range(text: str) -> tuple[int, int | None]:
    """First byte and total of `bytes 100-199/200`."""
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    first = whole_number(span.partition("-")[0])
    if unit != "bytes" or first is None:
        raise Interrupted(f"answered a range with Content-Range {brief(text)!r}")
    return first, whole_number(total)


@contextlib.contextmanager
def _transport_errors(limits: Limits) -> Iterator[None]:
    """Turn httpx's exceptions into Refused (no retry) or Interrupted (retry)."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise Refused(brief(str(error))) from None
    except httpx.ReadTimeout:
        raise Interrupted(f"sent nothing for {limits.stall_seconds:g} s") from None
    except httpx.TransportError as error:
        raise Interrupted(brief(str(error)) or type(error).__name__) from None
