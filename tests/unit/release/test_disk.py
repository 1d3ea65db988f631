"""Room on the disk: checked before the start, for all downloads together; and a disk that fills up nevertheless."""

import subprocess
import sys

import pytest
from webserver import Status

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.release import fetch, files

LEVELS = ("uniref50", "uniref90")
FILE = "uniref50.xml.gz"
DIRECTORY = "/current_release/uniref/uniref50"
PATH = f"{DIRECTORY}/{FILE}"


def config(*servers, **options):
    return Release(mirrors=tuple(server.url for server in servers), **options)


def content(site):
    return (site / PATH.lstrip("/")).read_bytes()


def requests_of(server):
    return [wanted for asked, wanted in server.requests if asked == PATH]


def assert_nothing_left(directory):
    assert list(directory.iterdir()) == []


def test_too_small_a_disk_is_an_error_before_the_start(server, tmp_path, downloader, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(
        UserError, match=r"uniref50.xml.gz needs .* to spare\); the disk has 1.00 MB free; free some space"
    ):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert requests_of(server) == []
    assert_nothing_left(tmp_path)


PLANNED = (FILE, "uniref50.release_note", "uniref90.xml.gz", "taxdump.tar.gz", "purge-0.txt")


def free_bytes(monkeypatch, count):
    usage = type("Usage", (), {"free": files.SPARE_BYTES + count})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)


def sizes_of(site):
    return [(site / f"current_release/uniref/{level}/{level}.xml.gz").stat().st_size for level in LEVELS]


def test_there_must_be_room_for_all_planned_files(site, server, tmp_path, downloader, monkeypatch):
    """Each of two files fits alone, both do not: the first is not started. Partial downloads count."""
    settings = config(server, taxdump=f"{server.url}/taxonomy/taxdump.tar.gz", purge_lists=("absent.txt",))
    note = (site / f"{DIRECTORY.lstrip('/')}/uniref50.release_note").stat().st_size
    both = sum(sizes_of(site)) + note
    free_bytes(monkeypatch, both - 1)
    with pytest.raises(UserError, match=r"uniref50\.xml\.gz, with 2 more of the release, needs .* to spare\)"):
        fetch.run(FILE, tmp_path / FILE, settings, downloader, planned=PLANNED)
    assert requests_of(server) == []
    assert_nothing_left(tmp_path)
    (tmp_path / "uniref90.xml.gz.part").write_bytes(b"x")
    fetch.run(FILE, tmp_path / FILE, settings, downloader, planned=PLANNED)
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_a_complete_file_needs_no_room(site, server, tmp_path, downloader, monkeypatch):
    free_bytes(monkeypatch, sizes_of(site)[0])
    (tmp_path / "uniref90.xml.gz").write_bytes(b"there")
    fetch.run(FILE, tmp_path / FILE, config(server), downloader, planned=(FILE, "uniref90.xml.gz"))
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_a_planned_file_that_no_mirror_has_does_not_stop_this_one(site, server, tmp_path, downloader):
    server.always("/current_release/uniref/uniref90/RELEASE.metalink", Status(404))
    fetch.run(FILE, tmp_path / FILE, config(server), downloader, planned=(FILE, "uniref90.xml.gz"))
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_a_full_disk_is_one_line_and_the_download_is_resumed(site, server, tmp_path, downloader):
    """A limit on the file size stands for the full disk: the same write fails."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from unirefine.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(["release", "fetch", "--set", "mirrors=[{server.url}]", "--file", {FILE!r}, "--output", sys.argv[1]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / FILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"unirefine release fetch: error: {FILE}: file too large after ")
    assert error.endswith("run it again: it goes on from there")
    server.requests.clear()
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert requests_of(server) == ["bytes=20000-"]
    assert (tmp_path / FILE).read_bytes() == content(site)
