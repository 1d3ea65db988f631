"""The tarball of an older release: downloaded like every file, extracted, deleted, and restarted anywhere."""

import dataclasses
import errno
import hashlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from forked import Forked
from minisite import formats
from tars import FILES, gzipped, member, read, release
from webserver import Body, Corrupt, Cut, Stall, Status, Truncate, serve

from unirefine import progress
from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.release import archive, files, tarball
from unirefine.release.archive import EXTRACTED_SHARE, WANTED

NAME = "uniref2024_03.tar.gz"
DIRECTORY = "previous_releases/release-2024_03/uniref"
PATH = f"/{DIRECTORY}/{NAME}"


def config(*servers):
    return Release(source="archive", name="2024_03", mirrors=tuple(server.url for server in servers))


def assert_extracted(directory, data):
    """The wanted files of this tarball and their facts are there, and nothing else."""
    expected = {name: content for name, content in read(data).items() if name in WANTED}
    assert sorted(expected) == sorted(WANTED)
    assert sorted(path.name for path in directory.iterdir()) == sorted([*WANTED, *(f"{n}.json" for n in WANTED)])
    for name, content in expected.items():
        assert (directory / name).read_bytes() == content
        facts = read_json(directory / f"{name}.json")
        assert list(facts) == ["file", "url", "asked_url", "release", "size", "md5", "sha256", "date", "verified_by"]
        assert facts["release"] == "2024_03" and facts["url"].endswith(f"{PATH}#{name}")
        assert facts["md5"] == hashlib.md5(content).hexdigest() and facts["size"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


def requests_of(server):
    return [wanted for asked, wanted in server.requests if asked == PATH]


@pytest.fixture
def data(site):
    """The bytes of the site's tarball."""
    return (site / PATH.lstrip("/")).read_bytes()


def site_with(directory, data):
    """A site whose archived release is this tarball."""
    folder = directory / DIRECTORY
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(data)
    (folder / "RELEASE.metalink").write_text(formats.metalink([folder / NAME], DIRECTORY, "2024_03"))
    return directory


# --- the download ---------------------------------------------------------------------------------------------------


def test_extracts_the_wanted_files(server, data, tmp_path, downloader):
    described = archive.run(tmp_path, config(server), downloader)
    assert [facts["file"] for facts in described] == list(WANTED)
    assert_extracted(tmp_path, data)
    assert requests_of(server) == [None]


def test_dropped_connections_lose_nothing(server, other, data, tmp_path, downloader):
    third = len(data) // 3
    server.fail(PATH, Cut(third))
    other.fail(PATH, Cut(third))
    archive.run(tmp_path, config(server, other), downloader)
    assert_extracted(tmp_path, data)
    assert requests_of(server) == [None, f"bytes={2 * third}-"]
    assert requests_of(other) == [f"bytes={third}-"]


def test_stalled_socket_fails_over(server, other, data, tmp_path, downloader, capsys):
    half = len(data) // 2
    server.fail(PATH, Stall(half))
    archive.run(tmp_path, config(server, other), dataclasses.replace(downloader, stall_seconds=2))
    assert_extracted(tmp_path, data)
    assert requests_of(other) == [f"bytes={half}-"]
    assert "sent nothing for 2 s" in capsys.readouterr().err


def test_429_waits_as_long_as_asked(server, data, tmp_path, downloader):
    server.fail(PATH, Status(429, "1"))
    started = time.monotonic()
    archive.run(tmp_path, config(server), downloader)
    assert time.monotonic() - started >= 0.9
    assert_extracted(tmp_path, data)
    assert requests_of(server) == [None, None]


def test_429_goes_to_another_mirror_meanwhile(server, other, data, tmp_path, downloader):
    server.fail(PATH, Status(429, "600"))
    started = time.monotonic()
    archive.run(tmp_path, config(server, other), downloader)
    assert time.monotonic() - started < 300
    assert_extracted(tmp_path, data)
    assert requests_of(other) == [None]


def wrong_md5(right, data):
    return right.replace(hashlib.md5(data).hexdigest(), "0" * 32)


def another_release(right, data):
    return right.replace("<version>2024_03</version>", "<version>2024_02</version>")


def another_name(right, data):
    return right.replace(f'name="{NAME}"', 'name="other.tar.gz"')


def web_page(right, data):
    return "<!DOCTYPE html><html>Moved"


@pytest.mark.parametrize(
    ("change", "message", "downloads"),
    [
        (wrong_md5, rf"md5 is [0-9a-f]{{32}} where http.*RELEASE\.metalink says {'0' * 32}, 3 times over", 3),
        (another_release, "serves release 2024_02, not 2024_03", 0),
        (another_name, rf"does not list {NAME}; it lists other\.tar\.gz", 0),
        (web_page, "is not a metalink but an HTML page", 0),
    ],
)
def test_a_wrong_metalink_is_one_line_and_leaves_nothing(
    change, message, downloads, site, server, data, tmp_path, downloader
):
    right = (site / DIRECTORY / "RELEASE.metalink").read_text()
    wrong = change(right, data)
    assert wrong != right
    server.always(f"/{DIRECTORY}/RELEASE.metalink", Body(wrong.encode()))
    with pytest.raises(UserError, match=message) as caught:
        archive.run(tmp_path, config(server), downloader)
    assert "\n" not in caught.value.line()
    assert len(requests_of(server)) == downloads
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [another_release, web_page])
def test_a_wrong_metalink_of_one_mirror_is_skipped(change, site, server, other, data, tmp_path, downloader):
    right = (site / DIRECTORY / "RELEASE.metalink").read_text()
    server.always(f"/{DIRECTORY}/RELEASE.metalink", Body(change(right, data).encode()))
    archive.run(tmp_path, config(server, other), downloader)
    assert_extracted(tmp_path, data)
    assert (requests_of(server), requests_of(other)) == ([], [None])


def test_unknown_release(server, tmp_path, downloader):
    settings = Release(source="archive", name="1999_01", mirrors=(server.url,))
    with pytest.raises(UserError, match=r"cannot download RELEASE.metalink: .*404 Not Found"):
        archive.run(tmp_path, settings, downloader)
    assert list(tmp_path.iterdir()) == []


def test_corruption_is_found_by_the_md5_of_the_whole(server, other, data, tmp_path, downloader):
    """Inverted in uniref100, which is not extracted."""
    server.always(PATH, Corrupt(1000))
    archive.run(tmp_path, config(server, other), downloader)
    assert_extracted(tmp_path, data)
    assert requests_of(other) == [None]


@pytest.mark.parametrize("at", [5, 30_000, -3])
def test_always_corrupt_is_one_clear_line_and_leaves_nothing(at, server, data, tmp_path, downloader):
    server.always(PATH, Corrupt(at % len(data)))
    with pytest.raises(UserError, match=rf"^{NAME}: md5 is .*3 times over; .* use another mirror$"):
        archive.run(tmp_path, config(server), downloader)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture_of_faults(seed, server, other, data, tmp_path, downloader):
    rng = random.Random(seed)
    for mirror in (server, other):
        mirror.ranges = rng.random() < 0.7
        for _ in range(rng.randrange(1, 5)):
            kinds = (Cut, Truncate, Corrupt)
            mirror.fail(PATH, rng.choice([*(kind(rng.randrange(len(data))) for kind in kinds), Status(503)]))
    archive.run(tmp_path, config(server, other), dataclasses.replace(downloader, attempts=10))
    assert_extracted(tmp_path, data)


# --- killed and started again ---------------------------------------------------------------------------------------

START = """
import sys
from pathlib import Path
from unirefine.config import Release
from unirefine.release import archive
archive.run(Path(sys.argv[1]), Release(source="archive", name="2024_03", mirrors=(sys.argv[2],)))
"""
KILLED = """
import os, signal, sys
from pathlib import Path
import unirefine.release.archive, unirefine.release.fetch, unirefine.release.tarball
owner, name, calls, when = {point!r}
owner = Path if owner == "Path" else sys.modules["unirefine.release." + owner]
real, count = getattr(owner, name), 0
def last(*arguments, **options):
    global count
    count += 1
    if count <= calls or when == "before" and count == calls + 1:
        if count == calls + 1: os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, last)
"""


def start(directory, server, before=""):
    """Start it in a process of its own."""
    program = directory.with_suffix(".py")  # the directory is for what it writes
    program.write_text(before + START)
    return Forked(str(program), [directory, server.url])


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_a_killed_download_is_resumed(fraction, server, data, tmp_path, downloader):
    far, slack = int(fraction * len(data)), 1 << 16  # which is not written yet
    server.always(PATH, Stall(far))
    child = start(tmp_path, server)
    partial, deadline = tmp_path / f"{NAME}.part", time.monotonic() + 120
    while files.size_of(partial) < far - slack and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    there = partial.stat().st_size
    assert far - slack <= there <= far
    assert not any((tmp_path / name).exists() for name in WANTED)
    server.always(PATH, None)
    server.requests.clear()
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == [f"bytes={there}-"]
    assert_extracted(tmp_path, data)


POINTS = {
    "the tarball is whole, its facts are not written": ("fetch", "fsync_directory", 0, "before"),
    "the first file is not written": ("tarball", "_write", 0, "before"),
    "the first file is written": ("tarball", "_write", 0, "after"),
    "the last file is written": ("tarball", "_write", 3, "after"),
    "the first file has its name": ("archive", "write_json", 0, "before"),
    "the third file has its name": ("archive", "write_json", 2, "after"),
    "all files have their facts": ("archive", "fsync_directory", 0, "after"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_whole_tarball_is_not_downloaded_again(point, server, data, tmp_path, downloader):
    """kill -9 at each step after the download, then a second start."""
    child = start(tmp_path, server, KILLED.format(point=POINTS[point]))
    assert child.wait() == -signal.SIGKILL
    assert requests_of(server) == [None]
    for name in WANTED:  # whole or not there
        assert not (tmp_path / name).exists() or (tmp_path / name).read_bytes() == read(data)[name]
    server.requests.clear()
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == []
    assert_extracted(tmp_path, data)


@pytest.mark.parametrize("left", ["the tarball and its facts", "the tarball", "nothing"])
def test_killed_while_the_tarball_is_deleted(left, server, data, tmp_path, downloader):
    first = archive.run(tmp_path, config(server), downloader)
    if left != "nothing":
        (tmp_path / NAME).write_bytes(data)
    if left == "the tarball and its facts":
        (tmp_path / f"{NAME}.json").write_text("{}")
    server.requests.clear()
    assert archive.run(tmp_path, config(server), downloader) == first
    assert requests_of(server) == []
    assert_extracted(tmp_path, data)


def test_a_second_start_after_another_kill(server, data, tmp_path, downloader):
    """Temporary files of killed extractions do not accumulate."""
    for _ in range(2):
        assert start(tmp_path, server, KILLED.format(point=("tarball", "_write", 1, "after"))).wait() == -signal.SIGKILL
        assert len(list(tmp_path.glob(".*.extracted"))) == 1
    archive.run(tmp_path, config(server), downloader)
    assert_extracted(tmp_path, data)


def test_a_byte_gone_wrong_before_a_kill_is_found_after_it(server, data, tmp_path, downloader):
    server.always(PATH, Cut(30_000))
    server.ranges = False
    with pytest.raises(UserError, match="cannot download"):
        archive.run(tmp_path, config(server), downloader)
    partial = tmp_path / f"{NAME}.part"
    content = bytearray(partial.read_bytes())
    content[1000] ^= 1
    partial.write_bytes(content)
    server.always(PATH, None)
    server.ranges = True
    server.requests.clear()
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == ["bytes=30000-", None]
    assert_extracted(tmp_path, data)


@pytest.mark.parametrize("damage", ["changed", "shorter", "of another release"])
def test_a_damaged_tarball_is_downloaded_again(damage, server, data, tmp_path, downloader):
    wrong = {"changed": data[:-1] + b"?", "shorter": data[:-1], "of another release": b"x" * len(data)}[damage]
    (tmp_path / NAME).write_bytes(wrong)
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == [None]
    assert_extracted(tmp_path, data)


@pytest.mark.parametrize("damage", ["deleted", "deleted facts", "changed", "shorter", "of another release"])
def test_changed_files_are_extracted_again(damage, server, data, tmp_path, downloader):
    archive.run(tmp_path, config(server), downloader)
    path, facts = tmp_path / WANTED[2], tmp_path / f"{WANTED[2]}.json"
    content = path.read_bytes()
    if damage.startswith("deleted"):
        (path if damage == "deleted" else facts).unlink()
    elif damage == "of another release":
        write_json(facts, read_json(facts) | {"release": "2024_02"})
    else:
        path.write_bytes(content[:-1] + (b"?" if damage == "changed" else b""))
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == [None, None]
    assert_extracted(tmp_path, data)


def test_two_processes_do_not_extract_the_same_tarball(server, tmp_path, downloader):
    with files.locked(tmp_path / f"{NAME}.lock"), pytest.raises(UserError, match="another process is downloading"):
        archive.run(tmp_path, config(server), downloader)


# --- tarballs that are as their metalink says, and wrong ------------------------------------------------------------

WRONG = {
    "not a tarball": (b"<html>" * 200, "is not gzip or is corrupt"),
    "not a tar": (gzipped(b"x" * 5000), r"is not a whole tar \("),
    "truncated": (gzipped(release())[:-20], "ends in the middle of"),
    "without uniref50": (
        gzipped(release(files={name: FILES[name] for name in WANTED[:2]})),
        r"has no uniref50\.xml\.gz, uniref50\.release_note; it has uniref100\.tar, uniref90\.tar, ",
    ),
    "an unsafe name after the wanted files": (gzipped(release(("../x", b"x"))), "leads out of its directory"),
    "a negative size": (gzipped(member("a", size=-512) + bytes(1024)), "impossible size of -512 bytes"),
    "a file twice": (gzipped(release(("uniref50.xml.gz", b"x"))), r"has uniref50\.xml\.gz twice"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_tarball_is_one_line_and_leaves_nothing(kind, tmp_path, downloader):
    content, message = WRONG[kind]
    with serve(site_with(tmp_path / "site", content)) as server, pytest.raises(UserError) as caught:
        archive.run(tmp_path / "out", config(server), downloader)
    assert caught.match(rf"^{NAME}: .*{message}.* use another mirror$")
    assert "\n" not in caught.value.line()
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "site"]


def test_a_wrong_tarball_does_not_replace_files_that_are_there(tmp_path, downloader):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / WANTED[0]).write_bytes(b"of an earlier run")
    with serve(site_with(tmp_path / "site", WRONG["a file twice"][0])) as server, pytest.raises(UserError):
        archive.run(tmp_path / "out", config(server), downloader)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"of an earlier run"]


# --- the disk -------------------------------------------------------------------------------------------------------


def free_bytes(monkeypatch, count):
    usage = type("Usage", (), {"free": files.SPARE_BYTES + count})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)


def test_there_must_be_room_for_the_tarball_and_its_files(server, data, tmp_path, downloader, monkeypatch):
    needed = len(data) + round(EXTRACTED_SHARE * len(data))
    free_bytes(monkeypatch, needed - 1)
    message = (
        rf"{NAME}, with UniRef90 and UniRef50 out of it, needs .* to spare\); the disk has .* free; free some space"
    )
    with pytest.raises(UserError, match=message):
        archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_of_the_tarball_needs_no_room(server, data, tmp_path, downloader, monkeypatch):
    needed = round(EXTRACTED_SHARE * len(data))
    (tmp_path / NAME).write_bytes(data)
    monkeypatch.setattr(tarball, "check_space", lambda *_: None)
    free_bytes(monkeypatch, needed - 1)
    with pytest.raises(UserError, match="out of it, needs"):
        archive.run(tmp_path, config(server), downloader)
    free_bytes(monkeypatch, needed)
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == []
    assert_extracted(tmp_path, data)


def test_more_room_may_be_needed_than_was_estimated(tmp_path, downloader, monkeypatch):
    """Each file is checked when its size is known; the tarball is kept until there is room."""
    content, output = gzipped(release()), tmp_path / "out"
    with serve(site_with(tmp_path / "site", content)) as server:
        free = {True: 1000, False: 2 * len(content)}  # once the tarball has been asked for, and before
        usage = type("Usage", (), {"free": property(lambda _: files.SPARE_BYTES + free[bool(requests_of(server))])})
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage())
        with pytest.raises(UserError, match=r"uniref90\.xml\.gz needs 1\.35 kB .* the disk has 67\.1 MB free"):
            archive.run(output, config(server), downloader)
        assert sorted(path.name for path in output.iterdir()) == [NAME, f"{NAME}.json"]
        monkeypatch.undo()
        archive.run(output, config(server), downloader)
        assert requests_of(server) == [None]
        assert_extracted(output, release())


def test_a_full_disk_keeps_the_tarball(server, data, tmp_path, downloader, monkeypatch):
    def full(descriptor):
        if ".extracted/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"no space left on device after .* the tarball is kept") as caught:
        archive.run(tmp_path, config(server), downloader)
    assert caught.value.where in WANTED
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.json"]
    monkeypatch.undo()
    archive.run(tmp_path, config(server), downloader)
    assert requests_of(server) == [None]
    assert_extracted(tmp_path, data)


# --- progress -------------------------------------------------------------------------------------------------------


def test_download_hashing_and_extraction_report_rate_and_eta(server, data, tmp_path, downloader, monkeypatch, capsys):
    """Also while a server is silent."""
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.005)
    slow = tarball._write
    monkeypatch.setattr(tarball, "_write", lambda *arguments: (time.sleep(0.05), slow(*arguments))[1])
    server.fail(PATH, Stall(30_000))
    (tmp_path / WANTED[0]).write_bytes(b"x")
    archive.run(tmp_path, config(server), dataclasses.replace(downloader, stall_seconds=0.5))
    lines = capsys.readouterr().err.splitlines()
    downloading = [line for line in lines if line.startswith(f"{NAME}: 30.0 kB of ") and "/s, ETA " in line]
    extracting = [line for line in lines if line.startswith(f"{NAME}: extract: ") and "/s, ETA " in line]
    assert len(downloading) > 10 and len(extracting) > 3
    (tmp_path / NAME).write_bytes(data)
    (tmp_path / WANTED[1]).unlink()
    archive.run(tmp_path, config(server), downloader)
    assert f"{NAME}: hash: " in capsys.readouterr().err
