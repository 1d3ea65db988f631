"""The tarball of an older release: extracted while it streams, restarted anywhere, verified as a whole."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time

import pytest
from minisite import formats
from webserver import Body, Corrupt, Cut, Stall, Status, Truncate, serve

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.release import archive, files
from unirefine.release.archive import WANTED, extract

NAME = "uniref2024_03.tar.gz"
DIRECTORY = "previous_releases/release-2024_03/uniref"
PATH = f"/{DIRECTORY}/{NAME}"
BLOCKS = 70_000
"""More than the bytes between two checkpoints of the small tarball, whose deflate blocks are that long."""


def config(*servers):
    return Release(source="archive", name="2024_03", mirrors=tuple(server.url for server in servers))


def inner_files(tarball):
    """The wanted files, as Python's tarfile finds them."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as outer:
        for tar in outer:
            with tarfile.open(fileobj=outer.extractfile(tar)) as inner:
                found |= {entry.name: inner.extractfile(entry).read() for entry in inner}
    return {name: data for name, data in found.items() if name in WANTED}


def assert_extracted(directory, tarball):
    expected = inner_files(tarball)
    assert sorted(expected) == sorted(WANTED)
    assert sorted(path.name for path in directory.iterdir()) == sorted([*WANTED, *(f"{n}.json" for n in WANTED)])
    for name, data in expected.items():
        assert (directory / name).read_bytes() == data
        facts = json.loads((directory / f"{name}.json").read_text())
        assert facts["release"] == "2024_03" and facts["url"].endswith(f"{PATH}#{name}")
        assert facts["md5"] == hashlib.md5(data).hexdigest() and facts["size"] == len(data)
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()


def requests_of(server):
    return [wanted for asked, wanted in server.requests if asked == PATH]


@pytest.fixture
def tarball(site):
    return (site / PATH.lstrip("/")).read_bytes()


def site_with(directory, tarball):
    """A site whose archived release is this tarball."""
    place = directory / DIRECTORY
    place.mkdir(parents=True)
    (place / NAME).write_bytes(tarball)
    (place / "RELEASE.metalink").write_text(formats.metalink([place / NAME], DIRECTORY, "2024_03"))
    return directory


def tar(files, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as out:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_extracts_what_is_wanted(server, tarball, tmp_path, patience):
    described = extract(tmp_path, config(server), patience)
    assert [facts["file"] for facts in described] == list(WANTED)
    assert_extracted(tmp_path, tarball)
    assert requests_of(server) == [None]


def test_dropped_connections_lose_nothing(server, other, tarball, tmp_path, patience):
    third = len(tarball) // 3
    server.fail(PATH, Cut(third))
    other.fail(PATH, Cut(third))
    extract(tmp_path, config(server, other), patience)
    assert_extracted(tmp_path, tarball)
    assert requests_of(server) == [None, f"bytes={2 * third}-"]
    assert requests_of(other) == [f"bytes={third}-"]


def test_stalled_socket_fails_over(server, other, tarball, tmp_path, patience, capsys):
    half = len(tarball) // 2
    server.fail(PATH, Stall(half))
    extract(tmp_path, config(server, other), dataclasses.replace(patience, stall_seconds=2))
    assert_extracted(tmp_path, tarball)
    assert requests_of(other) == [f"bytes={half}-"]
    assert "sent nothing for 2 s" in capsys.readouterr().err


def test_429_waits_as_long_as_asked(server, tarball, tmp_path, patience):
    server.fail(PATH, Status(429, "1"))
    started = time.monotonic()
    extract(tmp_path, config(server), patience)
    assert time.monotonic() - started >= 0.9
    assert_extracted(tmp_path, tarball)
    assert requests_of(server) == [None, None]


def test_429_goes_to_another_mirror_meanwhile(server, other, tarball, tmp_path, patience):
    server.fail(PATH, Status(429, "600"))
    started = time.monotonic()
    extract(tmp_path, config(server, other), patience)
    assert time.monotonic() - started < 300
    assert_extracted(tmp_path, tarball)
    assert requests_of(other) == [None]


def wrong_md5(right, tarball):
    return right.replace(hashlib.md5(tarball).hexdigest(), "0" * 32)


def another_release(right, tarball):
    return right.replace("<version>2024_03</version>", "<version>2024_02</version>")


def another_name(right, tarball):
    return right.replace(f'name="{NAME}"', 'name="other.tar.gz"')


def web_page(right, tarball):
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
    change, message, downloads, site, server, tarball, tmp_path, patience
):
    right = (site / DIRECTORY / "RELEASE.metalink").read_text()
    wrong = change(right, tarball)
    assert wrong != right
    server.always(f"/{DIRECTORY}/RELEASE.metalink", Body(wrong.encode()))
    with pytest.raises(UserError, match=message) as caught:
        extract(tmp_path, config(server), patience)
    assert "\n" not in caught.value.line()
    assert len(requests_of(server)) == downloads
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [another_release, web_page])
def test_a_wrong_metalink_of_one_mirror_is_passed_over(change, site, server, other, tarball, tmp_path, patience):
    right = (site / DIRECTORY / "RELEASE.metalink").read_text()
    server.always(f"/{DIRECTORY}/RELEASE.metalink", Body(change(right, tarball).encode()))
    extract(tmp_path, config(server, other), patience)
    assert_extracted(tmp_path, tarball)
    assert (requests_of(server), requests_of(other)) == ([], [None])


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
def test_goes_on_from_the_checkpoint_after_a_kill(fraction, server, tarball, tmp_path, patience):
    """In uniref100, in uniref90 and in uniref50."""
    far = int(fraction * len(tarball))
    server.always(PATH, Stall(far))
    script = (
        "import sys; from pathlib import Path; from unirefine.config import Release; "
        "from unirefine.release.archive import extract; "
        f"extract(Path(sys.argv[1]), Release(source='archive', name='2024_03', mirrors=({server.url!r},)), "
        "checkpoint_bytes=10_000)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL)
    checkpoint, deadline, position = tmp_path / f"{NAME}.checkpoint", time.monotonic() + 120, 0
    while position < far - BLOCKS and time.monotonic() < deadline:
        time.sleep(0.02)
        position = json.loads(checkpoint.read_text())["position"] if checkpoint.exists() else 0
    child.kill()
    child.wait()
    position = json.loads(checkpoint.read_text())["position"]
    assert far - BLOCKS <= position <= far
    assert not any((tmp_path / name).exists() for name in WANTED)
    server.always(PATH, None)
    server.requests.clear()
    extract(tmp_path, config(server), patience)
    assert requests_of(server) == [f"bytes={position}-"]
    assert_extracted(tmp_path, tarball)


def test_goes_on_from_every_checkpoint(server, tarball, tmp_path, patience, monkeypatch):
    """Stop at each checkpoint in turn, thousands of bytes apart: the result is the same every time."""

    class Stopped(Exception):
        pass

    save = archive._Extraction._save

    def save_and_stop(extraction, boundary):
        save(extraction, boundary)
        raise Stopped

    monkeypatch.setattr(archive._Extraction, "_save", save_and_stop)
    stops = 0
    while not (tmp_path / WANTED[0]).exists():
        try:
            extract(tmp_path, config(server), patience, checkpoint_bytes=20_000)
        except Stopped:
            stops += 1
            if json.loads((tmp_path / f"{NAME}.checkpoint").read_text())["position"] == len(tarball):
                break
    assert stops >= 4
    monkeypatch.setattr(archive._Extraction, "_save", save)
    server.requests.clear()
    extract(tmp_path, config(server), patience)  # killed when all was there but the names
    assert requests_of(server) == []
    assert_extracted(tmp_path, tarball)


def test_killed_while_renaming(server, tarball, tmp_path, patience, monkeypatch):
    write_json = archive.write_json

    def fail_at_the_second(path, value):
        if path.name == f"{WANTED[1]}.json":
            raise KeyboardInterrupt
        write_json(path, value)

    monkeypatch.setattr(archive, "write_json", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, config(server), patience)
    monkeypatch.setattr(archive, "write_json", write_json)
    server.requests.clear()
    extract(tmp_path, config(server), patience)
    assert requests_of(server) == []
    assert_extracted(tmp_path, tarball)


def test_checkpoint_without_its_files_is_not_used(server, tarball, tmp_path, patience, monkeypatch):
    save = archive._Extraction._save

    def save_and_stop(extraction, boundary):
        save(extraction, boundary)
        if extraction.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(archive._Extraction, "_save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, config(server), patience, checkpoint_bytes=10_000)
    monkeypatch.setattr(archive._Extraction, "_save", save)
    (tmp_path / f"{WANTED[0]}.part").unlink(missing_ok=True)
    (tmp_path / f"{WANTED[1]}.part").unlink(missing_ok=True)
    server.requests.clear()
    extract(tmp_path, config(server), patience)
    assert requests_of(server) == [None]
    assert_extracted(tmp_path, tarball)


def test_corruption_is_found_by_the_md5_of_the_whole(server, other, tarball, tmp_path, patience):
    """Inverted in uniref100, which is not extracted: nothing but the md5, or the inflate, can tell."""
    server.always(PATH, Corrupt(1000))
    extract(tmp_path, config(server, other), patience)
    assert_extracted(tmp_path, tarball)
    assert requests_of(other) == [None]


@pytest.mark.parametrize("at", [5, 30_000, -3])
def test_always_corrupt_is_one_clear_line_and_leaves_nothing(at, server, tarball, tmp_path, patience):
    server.always(PATH, Corrupt(at % len(tarball)))
    with pytest.raises(UserError, match=rf"^{NAME}: .*3 times over; try another mirror$"):
        extract(tmp_path, config(server), patience)
    assert list(tmp_path.iterdir()) == []


def test_corruption_before_a_checkpoint_is_found_after_it(server, tarball, tmp_path, patience, monkeypatch):
    """The md5 goes on over a restart: a byte gone wrong before it is noticed at the end."""
    save = archive._Extraction._save

    def save_and_stop(extraction, boundary):
        save(extraction, boundary)
        raise KeyboardInterrupt

    monkeypatch.setattr(archive._Extraction, "_save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, config(server), patience, checkpoint_bytes=10_000)
    monkeypatch.setattr(archive._Extraction, "_save", save)
    checkpoint = tmp_path / f"{NAME}.checkpoint"
    state = json.loads(checkpoint.read_text())
    state["hash"]["words"][0] ^= 1
    checkpoint.write_text(json.dumps(state))
    server.requests.clear()
    extract(tmp_path, config(server), patience)
    assert requests_of(server) == [f"bytes={state['position']}-", None]
    assert_extracted(tmp_path, tarball)


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture_of_faults(seed, server, other, tarball, tmp_path, patience):
    rng = random.Random(seed)
    for mirror in (server, other):
        mirror.ranges = rng.random() < 0.7
        for _ in range(rng.randrange(1, 5)):
            kinds = (Cut, Truncate, Corrupt)
            mirror.fail(PATH, rng.choice([*(kind(rng.randrange(len(tarball))) for kind in kinds), Status(503)]))
    extract(
        tmp_path, config(server, other), dataclasses.replace(patience, attempts=10),
        checkpoint_bytes=rng.choice([10_000, 100_000, 1 << 30]),
    )  # fmt: skip
    assert_extracted(tmp_path, tarball)


def test_tarball_without_uniref50(tmp_path, patience):
    inner = tar({"uniref90.xml.gz": b"x", "uniref90.release_note": b""})
    broken = gzip.compress(tar({"uniref100.tar": b"?" * 700, "uniref90.tar": inner}))
    with serve(site_with(tmp_path / "site", broken)) as server, pytest.raises(UserError) as caught:
        extract(tmp_path / "out", config(server), patience)
    assert "has no uniref50.xml.gz, uniref50.release_note; it has uniref100.tar, uniref90.tar" in caught.value.line()


def test_not_a_tarball(tmp_path, patience):
    for content, message in [
        (b"<html>" * 200, "is not gzip or is corrupt"),
        (gzip.compress(os.urandom(5000)), "is not a tar: no header at byte 0 of its content"),
    ]:
        place = tmp_path / str(len(content))
        with serve(site_with(place / "site", content)) as server, pytest.raises(UserError, match=message):
            extract(place / "out", config(server), patience)
        assert list((place / "out").iterdir()) == []


def test_tarball_that_ends_too_early(tarball, tmp_path, patience):
    """Its own md5 is right; its end is missing."""
    cut = tarball[: len(tarball) * 9 // 10]
    with serve(site_with(tmp_path / "site", cut)) as server, pytest.raises(UserError, match="ends in the middle"):
        extract(tmp_path / "out", config(server), patience)
    assert list((tmp_path / "out").iterdir()) == []


def test_unknown_release(server, tmp_path, patience):
    settings = Release(source="archive", name="1999_01", mirrors=(server.url,))
    with pytest.raises(UserError, match=r"cannot download RELEASE.metalink: .*404 Not Found"):
        extract(tmp_path, settings, patience)


def free_bytes(monkeypatch, count):
    usage = type("Usage", (), {"free": files.SPARE_BYTES + count})()
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage)


def test_a_disk_that_cannot_hold_the_least_is_told_before_the_start(server, tarball, tmp_path, patience, monkeypatch):
    free_bytes(monkeypatch, len(tarball) // 4 - 10)
    with pytest.raises(UserError, match=rf"UniRef90 and UniRef50 of {NAME}, at the least, needs .*free some space"):
        extract(tmp_path, config(server), patience)
    assert requests_of(server) == []


def test_too_small_a_disk_is_told_when_the_size_is_known(server, tarball, tmp_path, patience, monkeypatch, capsys):
    free_bytes(monkeypatch, len(tarball) // 4 + 10)
    assert len(inner_files(tarball)[WANTED[0]]) > len(tarball) // 4 + 10
    with pytest.raises(UserError, match=r"uniref90\.xml\.gz needs .* to spare\); the disk has 67\.\d MB free"):
        extract(tmp_path, config(server), patience)
    assert "will be checked when their sizes are known" in capsys.readouterr().err
