"""Servers that are slow, lie, or send what no client expects: one line or the next mirror, always within bounds."""

import dataclasses
import datetime
import gzip
import hashlib
import ipaddress
import ssl
import time

import pytest
from webserver import Body, Raw, Redirect, Status, Trickle, serve

from unirefine.cli.main import main
from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.release import connection, fetch, metalink, outside
from unirefine.release.transport import Downloader, NotFoundError

TAXDUMP, PATH = "taxdump.tar.gz", "/t/taxdump.tar.gz"
DATA = gzip.compress(bytes(range(256)) * 40, mtime=0)
LIST = b"# purge\nP12345\nUPI0000000001\n"


@pytest.fixture
def pages(tmp_path):
    """A directory with a taxonomy, its md5, and a purge list."""
    folder = tmp_path / "pages" / "t"
    folder.mkdir(parents=True)
    (folder / TAXDUMP).write_bytes(DATA)
    (folder / f"{TAXDUMP}.md5").write_text(f"{hashlib.md5(DATA).hexdigest()}  {TAXDUMP}\n")
    (folder / "list.txt").write_bytes(LIST)
    return folder.parent


@pytest.fixture
def mirror(pages):
    with serve(pages) as running:
        yield running


@pytest.fixture
def second(pages):
    with serve(pages) as running:
        yield running


@pytest.fixture
def quick():
    """Retries without a pause; a busy machine is not a slow mirror."""
    return Downloader(stall_seconds=20, attempts=2, backoff_seconds=0.01)


@pytest.fixture
def hasty(quick):
    """What it does not have within a fifth of a second it does not wait for."""
    return dataclasses.replace(quick, stall_seconds=0.2, minimum_rate=20_000)


def get(file, out, downloader, **options):
    out.mkdir(exist_ok=True)
    return fetch.run(file, out / file, Release(**options), downloader)


def line_of(caught):
    line = caught.value.line()
    assert "\n" not in line and line.isprintable() and len(line) < 600
    return line


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [False, True])
def test_a_slow_mirror_is_left_for_the_next(head, mirror, second, hasty, capsys):
    """Each byte comes in time, all of them never would; the head of an answer too."""
    mirror.always(PATH, Trickle(0.02, head=head))
    urls = [mirror.url + PATH, second.url + PATH]
    began = time.monotonic()
    pieces = list(dataclasses.replace(hasty, attempts=20).stream(urls, what="x", size=len(DATA)))
    assert time.monotonic() - began < 20
    assert b"".join(piece.data for piece in pieces) == DATA and pieces[-1].asked == urls[1]
    assert ("did not answer within 0.2 s" if head else "sent only ") in capsys.readouterr().err


def test_a_slow_small_file_ends_in_one_line(mirror, hasty):
    mirror.always(PATH, Trickle(0.02))
    with pytest.raises(UserError, match=r"sent only \d+ B in \d s \(release\.minimum_rate\)|did not answer") as caught:
        hasty.read_small([mirror.url + PATH], what="the md5 file")
    line_of(caught)


@pytest.mark.parametrize(
    ("rate", "minimum", "kept"), [(3, 10_000, False), (9_999, 10_000, False), (10_001, 10_000, True), (3, 0, True)]
)
def test_the_rate_is_that_of_the_mirror(rate, minimum, kept, monkeypatch):
    """By a clock of its own: the reader, a slow disk, takes a hundred seconds with each piece, which do not count."""
    clock = [0.0]
    monkeypatch.setattr(connection.time, "monotonic", lambda: clock[0])

    def chunks():
        for _ in range(50):
            clock[0] += 10
            yield bytes(10 * rate)

    received = 0
    try:
        for chunk in connection._paced(chunks(), connection.Limits(60, minimum)):
            received += len(chunk)
            clock[0] += 100
    except connection.Interrupted:
        pass
    assert received == (500 * rate if kept else 50 * rate), "five chunks of six in a minute"


# --- headers and bodies that are wrong ------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WRONG = {
    "a length that is no number": Raw(OK + b"Content-Length: x\r\n\r\n" + DATA),
    "a negative length": Raw(OK + b"Content-Length: -5\r\n\r\n" + DATA),
    "a length in other digits": Raw(OK + "Content-Length: ²\r\n\r\n".encode() + DATA),
    "a length of 5,000 digits": Raw(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + DATA),
    "two lengths": Raw(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + DATA),
    "another length": Raw(OK + b"Content-Length: 7\r\n\r\n1234567"),
    "a header without end": Raw(OK + b"X: ", b"y" * 4096),
    "a chunk size without end": Raw(CHUNKED, b"0" * 4096),
    "a chunk size of 5,000 digits": Raw(CHUNKED + b"F" * 5000 + b"\r\nx"),
    "chunks without end": Raw(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "a body without end": Raw(OK + b"\r\n", b"x" * 4096),
    "no answer": Raw(b"", b"\0\x1b[2J" * 100),
    "a reason that moves the cursor": Raw(b"HTTP/1.1 403 \x1b[2J\x9b31m\r\nContent-Length: 0\r\n\r\n"),
    "a reason without end": Raw(b"HTTP/1.1 403 " + b"no" * 9000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "a range of 5,000 digits": Raw(
        b"HTTP/1.1 206 P\r\nContent-Range: bytes " + b"1" * 5000 + b"-2/3\r\nContent-Length: 1\r\n\r\nx"
    ),
    "a range in other digits": Raw(
        "HTTP/1.1 206 P\r\nContent-Range: bytes ²-2/3\r\nContent-Length: 1\r\n\r\nx".encode()
    ),
    "a range not asked for": Raw(b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-6/7\r\nContent-Length: 1\r\n\r\nx"),
    "redirects in a circle": Redirect(PATH),
    "a redirect elsewhere": Redirect("file:///etc/passwd"),
    "a redirect to no address": Redirect("http://[::1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_is_one_line_or_the_next_mirror(kind, mirror, second, quick, tmp_path, capsys):
    mirror.always(PATH, WRONG[kind])
    with pytest.raises(UserError) as caught:
        list(quick.stream([mirror.url + PATH], what="x", size=len(DATA), most=1 << 20))
    assert mirror.url.removeprefix("http://") in line_of(caught)
    urls = [mirror.url + PATH, second.url + PATH]
    began = time.monotonic()
    received = b""
    for piece in quick.stream(urls, what="x", size=len(DATA), resumable=False):
        received = received[: piece.position] + piece.data
    assert received == DATA and time.monotonic() - began < 20


def test_a_file_of_unknown_size_ends_somewhere(mirror, quick):
    for fault in (WRONG["a body without end"], WRONG["chunks without end"]):
        mirror.always(PATH, fault)
        with pytest.raises(UserError, match=r"is longer than 1\.05 MB"):
            quick.read_small([mirror.url + PATH], what="x")
    mirror.always(PATH, Raw(OK + b"Content-Length: 99999999999999\r\n\r\n"))
    with pytest.raises(UserError, match=r"is longer than 1\.05 MB"):
        quick.read_small([mirror.url + PATH], what="x")


def test_the_end_of_a_connection_is_not_waited_for(mirror, quick):
    """All bytes are there, but the last chunk, which has none, never comes."""
    mirror.always(PATH, Raw(CHUNKED + b"%x\r\n" % len(DATA) + DATA + b"\r\n", b""))
    assert b"".join(piece.data for piece in quick.stream([mirror.url + PATH], what="x", size=len(DATA))) == DATA
    assert len(mirror.requests) == 1


WAITS = {
    "5": 5.0, "²": 0.0, "٣": 0.0, "9" * 5000: 0.0, "-1": 0.0, "": 0.0, "soon": 0.0, "1e9": 0.0,
    "Fri, 01 Jan 99999999999 00:00:00 GMT": 0.0, "Fri, 01 Jan 0001 00:00:00 GMT": 0.0,
    "Fri, 99 Jan 2027 99:99:99 GMT": 0.0, "9" * 12: 999_999_999_999.0,
}  # fmt: skip


@pytest.mark.parametrize("text", WAITS)
def test_retry_after(text):
    assert connection._retry_after(text) == WAITS[text]
    assert connection.Interrupted("", WAITS[text]).wait <= connection.LONGEST_WAIT_S


def test_a_strange_retry_after_is_one_line(mirror, quick):
    mirror.always(PATH, Raw("HTTP/1.1 503 No\r\nRetry-After: ²\r\nContent-Length: 0\r\n\r\n".encode()))
    with pytest.raises(UserError, match="503 No") as caught:
        quick.read_small([mirror.url + PATH], what="x")
    line_of(caught)


@pytest.mark.parametrize("text", ["²", "٣", "1" * 19, "-1", "+1", " 1", "1_0", "", "1e3"])
def test_only_plain_numbers_are_numbers(text):
    assert outside.whole_number(text) is None
    assert outside.whole_number("0169188630923") == 169_188_630_923


# --- redirects ------------------------------------------------------------------------------------------------------


@pytest.fixture
def https(pages, tmp_path, monkeypatch):
    """The pages over HTTPS, with a certificate that this test's clients trust."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - datetime.timedelta(days=1)).add_extension(address, False)
    made = made.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    file = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serve(pages, context) as running:
        yield running


def test_https_never_becomes_http(https, mirror, quick, tmp_path):
    https.always(PATH, Redirect(mirror.url + PATH))
    with pytest.raises(UserError, match=r"redirects from https to http://127\.0\.0\.1, which is not secure") as caught:
        get(TAXDUMP, tmp_path / "out", quick, taxdump=https.url + PATH)
    line_of(caught)
    assert PATH not in [path for path, _range in mirror.requests]
    assert list((tmp_path / "out").iterdir()) == []


def test_nor_in_two_steps(https, mirror, quick):
    mirror.always(PATH, Redirect(https.url + PATH))
    https.always(PATH, Redirect(mirror.url + "/t/list.txt"))
    with pytest.raises(UserError, match="redirects from https to http"):
        quick.read_small([mirror.url + PATH], what="x")


def test_where_a_redirect_led_is_recorded(https, mirror, tmp_path):
    mirror.always("/elsewhere", Redirect(https.url + "/t/list.txt?key=1#part", code=301))
    facts = get("purge-0.txt", tmp_path / "out", None, purge_lists=(mirror.url + "/elsewhere",))
    assert facts["url"] == https.url + "/t/list.txt?key=1" and facts["asked_url"] == mirror.url + "/elsewhere"
    assert facts["verified_by"] is None


# --- checksums and kinds --------------------------------------------------------------------------------------------


def test_only_a_404_means_that_no_md5_is_published(mirror, quick, tmp_path, capsys):
    settings = {"taxdump": mirror.url + PATH}
    for code in (400, 401, 403, 410, 451):
        mirror.always(f"{PATH}.md5", Status(code))
        with pytest.raises(UserError, match=f"cannot download the md5 file: .*{code}") as caught:
            get(TAXDUMP, tmp_path / "out", quick, **settings)
        assert not isinstance(caught.value, NotFoundError)
        assert list((tmp_path / "out").iterdir()) == []
    mirror.always(f"{PATH}.md5", Status(404))
    assert get(TAXDUMP, tmp_path / "out", quick, **settings)["verified_by"] is None
    assert f"{TAXDUMP}: no md5 is published for it, so it is taken unverified" in capsys.readouterr().err
    mirror.always(f"{PATH}.md5", None)
    assert get(TAXDUMP, tmp_path / "out", quick, **settings)["verified_by"] == mirror.url + PATH + ".md5"
    assert "unverified" not in capsys.readouterr().err


PAGES = {
    b"<!DOCTYPE html><title>Log in": "an HTML page", b"\xef\xbb\xbf \n<HTML>": "an HTML page",
    b"<?xml version='1.0'?><Error/>": "XML or HTML", b'{"error": "gone"}': "JSON", b"": "an empty file",
    b"PK\x03\x04...": "a zip file", b"\0" * 50: "something else",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("file", [TAXDUMP, "purge-0.txt"])
def test_a_page_in_place_of_a_file_is_refused(file, page, mirror, quick, tmp_path):
    mirror.always(f"{PATH}.md5", Status(404))
    mirror.always(PATH, Body(page))
    settings = {"taxdump": mirror.url + PATH, "purge_lists": (mirror.url + PATH,)}
    with pytest.raises(UserError, match=f"{PATH}: {file} from there is {PAGES[page]}, not ") as caught:
        get(file, tmp_path / "out", quick, **settings)
    line_of(caught)
    assert list((tmp_path / "out").iterdir()) == []


def test_killed_between_the_last_byte_and_the_name(mirror, quick, tmp_path):
    """The server has no byte after the last, and would say so for ever (416)."""
    settings = {"taxdump": mirror.url + PATH}
    get(TAXDUMP, tmp_path / "out", quick, **settings)
    whole, partial = tmp_path / "out" / TAXDUMP, tmp_path / "out" / f"{TAXDUMP}.part"
    described = f'{{"size": null, "md5": "{hashlib.md5(DATA).hexdigest()}"}}'
    for content, asked in ((DATA, []), (DATA + b"more", [f"bytes={len(DATA) + 4}-", None]), (b"?" * 9000, 2)):
        whole.unlink()
        partial.write_bytes(content)
        partial.with_name(f"{partial.name}.json").write_text(described)
        mirror.requests.clear()
        get(TAXDUMP, tmp_path / "out", quick, **settings)
        assert whole.read_bytes() == DATA and not partial.exists()
        requests = [wanted for path, wanted in mirror.requests if path == PATH]
        assert requests == asked if isinstance(asked, list) else len(requests) == asked


def test_no_pipe_is_waited_for(quick, tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: is not a plain file"):
        get("purge-0.txt", tmp_path / "out", quick, purge_lists=(str(tmp_path / "pipe"),))
    for odd in ("a\0b", "file://[x", "http://[::1/x", "http:///"):
        with pytest.raises(UserError) as caught:
            get("purge-0.txt", tmp_path / "out", quick, purge_lists=(odd,))
        line_of(caught)


def test_passwords_are_not_printed(quick, tmp_path):
    with pytest.raises(UserError) as caught:
        get("purge-0.txt", tmp_path / "out", quick, purge_lists=("http://me:secret@127.0.0.1:9/x",))
    assert "127.0.0.1:9: " in line_of(caught) and "secret" not in caught.value.line()


# --- metalinks ------------------------------------------------------------------------------------------------------

START = '<metalink version="3.0" xmlns="http://www.metalinker.org/">'
FILE = '<file name="a"><size>{}</size><verification><hash type="md5">' + "0" * 32 + "</hash></verification></file>"


def page(version="2024_03", size="5", more=""):
    return f"{START}<version>{version}</version><files>{FILE.format(size)}{more}</files></metalink>".encode()


def test_a_metalink():
    assert metalink.parse(page(" 2024_03\n")) == metalink.Metalink("2024_03", {"a": metalink.Listed(5, "0" * 32)})


@pytest.mark.parametrize(
    "version", ["../../etc", "2024_3", "2024_03/x", "2024-03", "&#155;2J", "٢٠٢٤_٠٣", "2024_03 2024_04", "x" * 5000]
)
def test_a_release_must_look_like_one(version):
    with pytest.raises(ValueError, match="which is no release of UniProt") as caught:
        metalink.parse(page(version))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize("size", ["²", "-1", "9" * 5000, "1e9", "0x10", "\N{ARABIC-INDIC DIGIT FIVE}"])
def test_a_size_must_be_one(size):
    with pytest.raises(ValueError, match="no usable size or md5 for 'a'") as caught:
        metalink.parse(page(size=size))
    assert len(str(caught.value)) < 300


BOMB = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(12)
) + "]>"  # fmt: skip
HOSTILE = {
    "entities": BOMB.encode() + page("&m;"),
    "entities in UTF-16": (BOMB + page("&m;").decode()).encode("utf-16"),
    "an encoding": b'<?xml version="1.0" encoding="cp037"?>' + page(),
    "a file outside": b'<!DOCTYPE m [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + page("&f;"),
    "a file twice": page(more=FILE.format(6)),
    "depth": b"<a>" * 100_000,
    "zero bytes": bytes(1000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_metalinks(kind):
    began = time.process_time()
    if kind == "an encoding":  # which is not obeyed
        assert metalink.parse(HOSTILE[kind]).release == "2024_03"
        return
    with pytest.raises(ValueError, match=r"^(is not a metalink but|lists 'a' twice)"):
        metalink.parse(HOSTILE[kind])
    assert time.process_time() - began < 2


def test_nothing_of_a_server_moves_the_cursor(mirror, tmp_path, capsys):
    """From the command line: what it says is in the message, as text."""
    hostile = '<metalink xmlns="http://www.metalinker.org/"><version>\x9b2J\u202e\u2028</version></metalink>'
    path = "/current_release/uniref/uniref50/RELEASE.metalink"
    mirror.always(path, Body(hostile.encode()))
    arguments = ["--set", f"mirrors=[{mirror.url}]", "--set", "attempts=1", "--file", "uniref50.xml.gz"]
    assert main(["release", "fetch", *arguments, "--output", str(tmp_path / "x")]) == 1
    err = capsys.readouterr().err
    assert r"'\x9b2J\u202e" in err and err.replace("\n", "").isprintable()
