"""An HTTP server for tests that serves a directory, with the faults that a test asks for.

with serve(directory) as server:
    server.fail("/file.gz", Cut(1000), Status(503))   # one fault per request, then none
    download(f"{server.url}/file.gz")
    server.requests                                   # [("/file.gz", "bytes=1000-"), ...]
"""

import contextlib
import http.server
import socket
import ssl
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cut:
    """Announce the whole file, close the connection after `after` bytes of the body."""

    after: int


@dataclass(frozen=True)
class Truncate:
    """Send `after` bytes of the body as if they were all (no Content-Length, clean close)."""

    after: int


@dataclass(frozen=True)
class Corrupt:
    """Send the right number of bytes, with the one at file position `at` inverted."""

    at: int


@dataclass(frozen=True)
class Status:
    """Answer with an error, and with Retry-After if given."""

    code: int
    retry_after: str | None = None


@dataclass(frozen=True)
class Stall:
    """Send `after` bytes of the body and then nothing more, the connection open."""

    after: int


@dataclass(frozen=True)
class Body:
    """Send this instead of the file."""

    data: bytes
    kind: str = "text/html"


@dataclass(frozen=True)
class Trickle:
    """Send one byte each `seconds`, from the first byte of the answer (`head`) or of the body on."""

    seconds: float
    head: bool = False


@dataclass(frozen=True)
class Redirect:
    """Send the client elsewhere, with a body without end."""

    to: str
    code: int = 302


@dataclass(frozen=True)
class Raw:
    """Send this as the whole answer, head and body, then `again` without end, and close the connection."""

    data: bytes
    again: bytes = b""


Fault = Cut | Truncate | Corrupt | Status | Stall | Body | Trickle | Redirect | Raw


class Server:
    """What a test sees of a running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ranges = True
        """Whether Range is understood."""
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header of every request so far."""
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault | None] = {}
        self._released = threading.Event()

    def fail(self, path: str, *faults: Fault) -> None:
        """The next requests for `path` get these faults, one each."""
        self._faults[path].extend(faults)

    def always(self, path: str, fault: Fault | None) -> None:
        """Every request for `path` gets this fault; None: no more."""
        self._always[path] = fault

    def fault_of(self, path: str) -> Fault | None:
        """The fault of the next request for `path`."""
        if self._faults[path]:
            return self._faults[path].popleft()
        return self._always.get(path)

    def wait(self, seconds: float = 60) -> bool:
        """Keep a stalled connection open, at most this long. Returns whether the server is shut down."""
        return self._released.wait(seconds)

    def release(self) -> None:
        """End the stalled connections."""
        self._released.set()


class _QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is not an error of the server."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve(directory: Path, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve a directory on a free port of the loopback interface, over HTTPS if `tls` is given."""
    seen: list[Server] = []
    httpd = _QuietServer(("127.0.0.1", 0), _handler(directory, lambda: seen[0]))
    if tls is not None:
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
    server = Server(f"{'http' if tls is None else 'https'}://127.0.0.1:{httpd.server_address[1]}")
    seen.append(server)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handler(directory: Path, server_of: Callable[[], Server]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server = server_of()
            wanted = self.headers.get("Range")
            server.requests.append((self.path, wanted))
            fault = server.fault_of(self.path)
            if isinstance(fault, Status):
                self._answer(fault.code, b"", {"Retry-After": fault.retry_after} if fault.retry_after else {})
                return
            if isinstance(fault, Redirect):
                self._forever(f"HTTP/1.1 {fault.code} Elsewhere\r\nLocation: {fault.to}\r\n\r\n".encode(), b"x" * 4096)
                return
            if isinstance(fault, Raw):
                self._forever(fault.data, fault.again)
                return
            if isinstance(fault, Trickle) and fault.head:
                self._slowly(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000, fault.seconds, server)
                return
            if isinstance(fault, Body):
                self._answer(200, fault.data, {"Content-Type": fault.kind})
                return
            path = directory / self.path.partition("?")[0].lstrip("/")
            if not path.is_file():
                self._answer(404, b"not here", {})
                return
            data = path.read_bytes()
            if isinstance(fault, Corrupt):
                data = data[: fault.at] + bytes([data[fault.at] ^ 0xFF]) + data[fault.at + 1 :]
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
            if first and first >= len(data):
                self._answer(416, b"", {})
                return
            code, headers = 200, {}
            if wanted and server.ranges:
                code, headers = 206, {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
            self._send(code, headers, data[first:], fault, server)

        def _send(self, code: int, headers: dict[str, str], data: bytes, fault: Fault | None, server: Server) -> None:
            if isinstance(fault, Truncate):
                self._head(code, headers | {"Connection": "close"})
                self.wfile.write(data[: fault.after])
                self.close_connection = True
                return
            self._head(code, headers | {"Content-Length": str(len(data))})
            if isinstance(fault, Trickle):
                self._slowly(data, fault.seconds, server)
                return
            if isinstance(fault, Cut | Stall):
                self.wfile.write(data[: fault.after])
                if isinstance(fault, Stall):
                    server.wait()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            with contextlib.suppress(ConnectionError):  # the client may have closed it
                self.wfile.write(data)

        def _slowly(self, data: bytes, seconds: float, server: Server) -> None:
            self.close_connection = True
            for byte in data:
                if server.wait(seconds):
                    return
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:  # the client has closed it
                    return

        def _forever(self, start: bytes, again: bytes) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):  # until the client closes it
                self.wfile.write(start)
                while again:
                    self.wfile.write(again)

        def _answer(self, code: int, data: bytes, headers: dict[str, str]) -> None:
            self._head(code, headers | {"Content-Length": str(len(data))})
            self.wfile.write(data)

        def _head(self, code: int, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet: the tests look at `Server.requests`."""

    return Handler
