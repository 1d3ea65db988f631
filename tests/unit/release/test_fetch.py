"""Single files: verified, resumed, and every fault of a server survived or reported in one clear line."""

import dataclasses
import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from webserver import Body, Corrupt, Cut, Stall, Status, Truncate

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.release import fetch, files
from unirefine.release.transport import NotFoundError

FILE = "uniref50.xml.gz"
DIRECTORY = "/current_release/uniref/uniref50"
PATH = f"{DIRECTORY}/{FILE}"
METALINK = f"{DIRECTORY}/RELEASE.metalink"


def config(*servers, **options):
    return Release(mirrors=tuple(server.url for server in servers), **options)


def content(site):
    return (site / PATH.lstrip("/")).read_bytes()


def requests_of(server, path=PATH):
    return [wanted for asked, wanted in server.requests if asked == path]


def assert_nothing_left(directory):
    assert list(directory.iterdir()) == []


def test_downloads_and_describes(site, server, tmp_path, downloader):
    facts = fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    data = content(site)
    assert (tmp_path / FILE).read_bytes() == data
    assert facts == read_json(tmp_path / f"{FILE}.json")
    date = facts.pop("date")
    assert date.endswith("+00:00")
    assert facts == {
        "file": FILE, "url": server.url + PATH, "asked_url": server.url + PATH, "release": "2026_03", "size": len(data),
        "md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest(),
        "verified_by": server.url + METALINK,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, f"{FILE}.json"]


def test_relative_file_url(site, tmp_path, downloader, monkeypatch):
    monkeypatch.chdir(site.parent)
    facts = fetch.run(FILE, tmp_path / FILE, Release(mirrors=("file:site",)), downloader)
    assert facts["url"] == f"file:site{PATH}"
    assert (tmp_path / FILE).read_bytes() == content(site)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("uniref90.fasta.gz", "current_release/uniref/uniref90/uniref90.fasta.gz"),
        ("uniref90.release_note", "current_release/uniref/uniref90/uniref90.release_note"),
        ("idmapping_selected.tab.gz", "current_release/knowledgebase/idmapping/idmapping_selected.tab.gz"),
        ("taxdump.tar.gz", "taxonomy/taxdump.tar.gz"),
    ],
)
def test_knows_where_files_are(name, path, site, server, tmp_path, downloader):
    settings = config(server, taxdump=f"{server.url}/taxonomy/taxdump.tar.gz")
    fetch.run(name, tmp_path / name, settings, downloader)
    assert (tmp_path / name).read_bytes() == (site / path).read_bytes()


def test_unknown_file(server, tmp_path, downloader):
    with pytest.raises(UserError, match=r"uniref50\.fasta is not a file of this release"):
        fetch.run("uniref50.fasta", tmp_path / "x", config(server), downloader)
    assert_nothing_left(tmp_path)


def test_purge_list_from_a_path(tmp_path, downloader):
    (tmp_path / "list.txt").write_text("P12345\n")
    settings = Release(purge_lists=(str(tmp_path / "list.txt"),))
    facts = fetch.run("purge-0.txt", tmp_path / "out" / "purge-0.txt", settings, downloader)
    assert facts["release"] is None and facts["size"] == 7
    assert (tmp_path / "out" / "purge-0.txt").read_text() == "P12345\n"
    with pytest.raises(UserError, match=r"purge-1\.txt is not a file"):
        fetch.run("purge-1.txt", tmp_path / "out" / "purge-1.txt", settings, downloader)


def test_missing_path_is_one_clear_line(tmp_path, downloader):
    settings = Release(purge_lists=(str(tmp_path / "absent.txt"),))
    with pytest.raises(UserError, match=r"cannot download purge-0\.txt: .*absent\.txt: no such file or directory"):
        fetch.run("purge-0.txt", tmp_path / "out" / "purge-0.txt", settings, downloader)
    assert_nothing_left(tmp_path / "out")


def test_other_schemes_are_refused(tmp_path, downloader):
    with pytest.raises(UserError, match="cannot download over ftp, only over https"):
        fetch.run(FILE, tmp_path / FILE, Release(mirrors=("ftp://ftp.uniprot.org/pub",)), downloader)


# --- resume ---------------------------------------------------------------------------------------------------------


def test_cut_connection_goes_on_where_it_broke(site, server, tmp_path, downloader):
    server.fail(PATH, Cut(10_000), Cut(5_000))
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert requests_of(server) == [None, "bytes=10000-", "bytes=15000-"]


def test_resumes_after_a_kill(site, server, tmp_path, downloader):
    half = len(content(site)) // 2
    server.always(PATH, Stall(half))
    script = (
        "import sys; from pathlib import Path; from unirefine.config import Release; "
        "from unirefine.release import fetch; "
        f"fetch.run({FILE!r}, Path(sys.argv[1]), Release(mirrors=({server.url!r},)))"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / FILE)], stderr=subprocess.DEVNULL)
    partial = tmp_path / f"{FILE}.part"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    there = partial.stat().st_size
    assert 0 < there <= half
    server.always(PATH, None)
    server.requests.clear()
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert requests_of(server) == [f"bytes={there}-"]
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert not partial.exists()


def test_a_partial_download_of_another_file_is_not_used(site, server, tmp_path, downloader):
    (tmp_path / f"{FILE}.part").write_bytes(b"x" * 5000)
    (tmp_path / f"{FILE}.part.json").write_text('{"size": 1, "md5": "of the release before"}')
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert requests_of(server) == [None]
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_server_without_range(site, server, tmp_path, downloader):
    server.ranges = False
    server.fail(PATH, Cut(20_000))
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert requests_of(server) == [None, "bytes=20000-"]


def test_server_without_range_that_always_cuts_at_the_same_place(server, tmp_path, downloader):
    server.ranges = False
    server.always(PATH, Cut(20_000))
    with pytest.raises(UserError, match=r"cannot download uniref50\.xml\.gz: 127\.0\.0\.1"):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert not (tmp_path / FILE).exists()
    assert (tmp_path / f"{FILE}.part").stat().st_size == 20_000


def test_a_file_that_exists_is_not_downloaded_again(server, tmp_path, downloader):
    first = fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    server.requests.clear()
    second = fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert requests_of(server) == []
    assert first["sha256"] == second["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, f"{FILE}.json"]


def test_a_changed_output_is_downloaded_again(site, server, tmp_path, downloader):
    (tmp_path / FILE).write_bytes(content(site)[:-1] + b"?")
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_two_processes_do_not_write_the_same_file(server, tmp_path, downloader):
    with files.locked(tmp_path / f"{FILE}.part"), pytest.raises(UserError, match="another process is downloading"):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)


# --- faults ---------------------------------------------------------------------------------------------------------


def test_truncated_body(site, server, tmp_path, downloader):
    server.fail(PATH, Truncate(30_000))
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert requests_of(server) == [None, "bytes=30000-"]


def test_stalled_socket_fails_over(site, server, other, tmp_path, downloader, capsys):
    server.fail(PATH, Stall(10_000))
    fetch.run(FILE, tmp_path / FILE, config(server, other), dataclasses.replace(downloader, stall_seconds=2))
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert requests_of(other) == ["bytes=10000-"]
    assert "sent nothing for 2 s (at 10.0 kB)" in capsys.readouterr().err


def test_corrupted_body_is_deleted_and_fetched_from_the_other_mirror(site, server, other, tmp_path, downloader):
    server.fail(PATH, Corrupt(1000))
    facts = fetch.run(FILE, tmp_path / FILE, config(server, other), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert requests_of(other) == [None]
    assert facts["url"] == other.url + PATH


def test_always_corrupted_body_is_a_clear_error(server, tmp_path, downloader):
    server.always(PATH, Corrupt(1000))
    with pytest.raises(UserError, match=r"md5 is [0-9a-f]{32} where http.*RELEASE.metalink says .*, 3 times over"):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert len(requests_of(server)) == 3
    assert_nothing_left(tmp_path)


def test_404_on_one_mirror(site, server, other, tmp_path, downloader):
    server.always(PATH, Status(404))
    facts = fetch.run(FILE, tmp_path / FILE, config(server, other), downloader)
    assert facts["url"].startswith(other.url)
    assert len(requests_of(server)) == 1


def test_404_everywhere_is_an_error_at_once(server, other, tmp_path, downloader):
    server.always(PATH, Status(404))
    other.always(PATH, Status(404))
    with pytest.raises(NotFoundError) as caught:
        fetch.run(FILE, tmp_path / FILE, config(server, other), downloader)
    line = caught.value.line()
    assert line.count("404 Not Found") == 2 and "\n" not in line
    assert len(requests_of(server)) == len(requests_of(other)) == 1
    assert_nothing_left(tmp_path)


def test_dead_address_is_one_clear_line(tmp_path, downloader):
    with pytest.raises(UserError) as caught:
        fetch.run(FILE, tmp_path / FILE, Release(mirrors=("http://127.0.0.1:9",)), downloader)
    assert "127.0.0.1:9: " in caught.value.line() and "refused" in caught.value.line().lower()
    assert "\n" not in caught.value.line()
    assert_nothing_left(tmp_path)


def test_503_is_retried(site, server, tmp_path, downloader):
    server.fail(PATH, Status(503), Status(500))
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_503_on_every_attempt_is_an_error(server, tmp_path, downloader):
    server.always(PATH, Status(503))
    with pytest.raises(UserError, match="503 Service Unavailable"):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert len(requests_of(server)) == downloader.attempts


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_429_waits_as_long_as_asked(form, site, server, tmp_path, downloader):
    wait = "1" if form == "seconds" else time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    server.fail(PATH, Status(429, wait))
    started = time.monotonic()
    fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert 0.9 <= time.monotonic() - started < 60
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_429_goes_to_another_mirror_meanwhile(site, server, other, tmp_path, downloader):
    server.fail(PATH, Status(429, "600"))
    started = time.monotonic()
    fetch.run(FILE, tmp_path / FILE, config(server, other), downloader)
    assert time.monotonic() - started < 300
    assert requests_of(other) == [None]


def test_a_mirror_with_another_file_is_skipped(site, server, other, tmp_path, downloader):
    server.always(PATH, Body(b"an older release", "application/gzip"))
    fetch.run(FILE, tmp_path / FILE, config(server, other), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_faults(seed, site, server, other, tmp_path, downloader):
    """Whatever happens during the download, the file is right, and nothing else is left."""
    rng, size = random.Random(seed), len(content(site))
    for mirror in (server, other):
        mirror.ranges = rng.random() < 0.7
        for _ in range(rng.randrange(1, 7)):
            kinds = (Cut, Truncate, Corrupt)
            fault = rng.choice([*(kind(rng.randrange(size)) for kind in kinds), Status(503), Status(429, "0")])
            mirror.fail(PATH, fault)
    fetch.run(FILE, tmp_path / FILE, config(server, other), dataclasses.replace(downloader, attempts=14))
    assert (tmp_path / FILE).read_bytes() == content(site)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, f"{FILE}.json"]


# --- metalink -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><html><body>Moved", "is not a metalink but an HTML page"),
        (b"", "is not a metalink but an empty file"),
        (b"<metalink version='3.0'/>", "is not a metalink 3.0: its root is <metalink>"),
        (b"<metalink xmlns='http://www.metalinker.org/'/>", "names no release"),
        (
            b"<metalink xmlns='http://www.metalinker.org/'><version>2026_03</version><files>"
            b"<file name='uniref50.xml.gz'><size>12</size></file></files></metalink>",
            "no usable size or md5 for 'uniref50.xml.gz'",
        ),
        (b"<metalink xmlns='http://www.metalinker.org/'><version>2026_03</version></metalink>", "lists no files"),
    ],
)
def test_not_a_metalink(body, message, server, tmp_path, downloader):
    server.always(METALINK, Body(body))
    with pytest.raises(UserError, match=message):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert_nothing_left(tmp_path)


def test_metalink_of_the_other_mirror(site, server, other, tmp_path, downloader):
    server.always(METALINK, Body(b"<html>"))
    fetch.run(FILE, tmp_path / FILE, config(server, other), downloader)
    assert (tmp_path / FILE).read_bytes() == content(site)


def test_wrong_metalink(site, server, tmp_path, downloader):
    right = (site / METALINK.lstrip("/")).read_bytes()
    md5 = hashlib.md5(content(site)).hexdigest()
    server.always(METALINK, Body(right.replace(md5.encode(), b"0" * 32)))
    with pytest.raises(UserError, match=rf"md5 is {md5} where .* says {'0' * 32}"):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)
    assert_nothing_left(tmp_path)


def test_metalink_without_the_file(site, server, tmp_path, downloader):
    right = (site / METALINK.lstrip("/")).read_bytes()
    server.always(METALINK, Body(right.replace(b'name="uniref50.xml.gz"', b'name="other.gz"')))
    with pytest.raises(UserError, match=r"does not list uniref50\.xml\.gz; it lists README, other\.gz"):
        fetch.run(FILE, tmp_path / FILE, config(server), downloader)


def test_another_release_than_configured(server, tmp_path, downloader):
    with pytest.raises(UserError, match="serves release 2026_03, not 2026_02; set release"):
        fetch.run(FILE, tmp_path / FILE, config(server, name="2026_02"), downloader)


# --- files without a metalink ---------------------------------------------------------------------------------------


def test_md5_file_beside(server, tmp_path, downloader):
    address = f"{server.url}/taxonomy/taxdump.tar.gz"
    server.fail("/taxonomy/taxdump.tar.gz", Corrupt(100))
    fetch.run("taxdump.tar.gz", tmp_path / "taxdump.tar.gz", config(server, taxdump=address), downloader)
    assert len(requests_of(server, "/taxonomy/taxdump.tar.gz")) == 2
    server.always("/taxonomy/taxdump.tar.gz.md5", Body(b"<html>"))
    with pytest.raises(UserError, match="is not an md5 file"):
        fetch.run("taxdump.tar.gz", tmp_path / "again.tar.gz", config(server, taxdump=address), downloader)


def test_without_checksum_an_interrupted_file_begins_again(site, server, tmp_path, downloader):
    path = "/taxonomy/taxdump.tar.gz"
    server.always(f"{path}.md5", Status(404))
    server.fail(path, Cut(1000))
    settings = config(server, taxdump=f"{server.url}{path}")
    fetch.run("taxdump.tar.gz", tmp_path / "taxdump.tar.gz", settings, downloader)
    assert (tmp_path / "taxdump.tar.gz").read_bytes() == (site / "taxonomy/taxdump.tar.gz").read_bytes()
    assert requests_of(server, path) == [None, None]


def test_http_and_file_give_the_same_bytes(site, server, tmp_path, downloader):
    over_http = fetch.run(FILE, tmp_path / "a", config(server), downloader)
    from_disk = fetch.run(FILE, tmp_path / "b", Release(mirrors=(f"file:{site}",)), downloader)
    assert over_http["sha256"] == from_disk["sha256"]
    assert Path(tmp_path / "a").read_bytes() == Path(tmp_path / "b").read_bytes()
