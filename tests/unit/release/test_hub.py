"""A data set of the Hugging Face Hub, from a server that behaves as the Hub does, and misbehaves."""

import hashlib
import json
from pathlib import Path

import pytest
import webserver as web
from minisite.datasets import write_parquet

from unirefine.cli.main import main
from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import read_json
from unirefine.release import collect, hub

ID, REVISION = "lab/proteins", "4ac1d2973567e46b8ca95901f4b4793a21305995"
LIST = f"/api/datasets/{ID}/tree/{REVISION}?recursive=true"
FIRST = f"/datasets/{ID}/resolve/{REVISION}/train/000.parquet"
TRAIN = [(f"UniRef50_P{number:05d}", f"UniRef90_P{number:05d}", "MKV" * number) for number in range(10000, 10030)]
VALIDATION = [("UniRef50_Q6GZX4", "UniRef90_Q6GZX4", "MKW")]


def listed(directory: Path) -> list[dict]:
    """What the Hub lists of a directory: folders, a small file, and files of LFS."""
    entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": side} for side in ("train", "validation")]
    entries += [{"type": "file", "oid": "1" * 40, "size": 7, "path": "README.md"}]
    for path in sorted(directory.glob("*/*.parquet")):
        data = path.read_bytes()
        name = path.relative_to(directory).as_posix()
        lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        entries.append({"type": "file", "oid": "2" * 40, "size": len(data), "lfs": lfs, "path": name})
    return entries


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The files of the data set, at the path where the Hub serves them."""
    root = tmp_path_factory.mktemp("hub")
    directory = root / f"datasets/{ID}/resolve/{REVISION}"
    write_parquet(directory, TRAIN, VALIDATION)
    return root, directory


@pytest.fixture
def server(dataset):
    """The Hub: its list, and its files behind a redirect."""
    root, directory = dataset
    with web.serve(root) as running:
        running.always(LIST, web.Body(json.dumps(listed(directory)).encode(), "application/json"))
        yield running


@pytest.fixture
def config(server):
    return Release(source="parquet", dataset=ID, revision=REVISION, hub=server.url, taxdump=None)


def files(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.glob("*/*.parquet"))}


def test_all_files_are_downloaded_verified_and_recorded(server, config, dataset, downloader, tmp_path):
    server.fail(FIRST, web.Redirect(f"{server.url}{FIRST}?signed"))
    facts = hub.run(tmp_path / "release/dataset", config, downloader)
    assert files(tmp_path / "release/dataset") == files(dataset[1])
    assert [one["file"] for one in facts] == [f"train/00{number}.parquet" for number in range(3)] + [
        "validation/000.parquet"
    ]
    lines = collect.run(tmp_path / "release", [], tmp_path / "release/release.json", config)
    assert lines[0].startswith(f"release {ID}@{REVISION[:12]}: 4 files")
    written = read_json(tmp_path / "release/release.json")
    assert written["dataset"] == {"id": ID, "revision": REVISION} and written["source"] == "parquet"
    assert [one["sha256"] for one in written["files"]] == [
        hashlib.sha256(data).hexdigest() for data in files(dataset[1]).values()
    ]
    assert written["files"][0]["asked_url"] == server.url + FIRST
    assert written["files"][0]["url"].endswith("?signed") and written["files"][0]["verified_by"] == server.url + LIST
    asked = len(server.requests)
    hub.run(tmp_path / "release/dataset", config, downloader)  # what is there is not downloaded again
    assert [path for path, _range in server.requests[asked:]] == [LIST]


def test_held_out_files_can_be_downloaded_alone(server, config, dataset, downloader, tmp_path):
    facts = hub.run(tmp_path / "dataset", config.model_copy(update={"only_held_out": True}), downloader)
    assert [one["file"] for one in facts] == ["validation/000.parquet"]
    assert not any("train" in path for path, _range in server.requests)


def test_a_broken_download_is_resumed_and_a_corrupt_one_made_again(server, config, dataset, downloader, tmp_path):
    second = FIRST.replace("000", "001")
    server.fail(FIRST, web.Cut(500), web.Status(503))
    server.fail(second, web.Corrupt(300))
    hub.run(tmp_path / "dataset", config, downloader)
    assert files(tmp_path / "dataset") == files(dataset[1])
    assert [wanted for path, wanted in server.requests if path == FIRST] == [None, "bytes=500-", "bytes=500-"]
    assert not (tmp_path / "dataset.part").exists()


def test_a_stopped_download_goes_on_and_files_of_another_commit_go(server, config, dataset, downloader, tmp_path):
    third = FIRST.replace("000", "002")
    server.always(third, web.Status(404))
    with pytest.raises(UserError, match=r"cannot download train/002.parquet: .*404"):
        hub.run(tmp_path / "dataset", config, downloader)
    assert not (tmp_path / "dataset").exists()
    (tmp_path / "dataset.part/train/009.parquet").write_bytes(b"of another commit")
    server.always(third, None)
    asked = len(server.requests)
    hub.run(tmp_path / "dataset", config, downloader)
    assert FIRST not in [path for path, _range in server.requests[asked:]]
    assert files(tmp_path / "dataset") == files(dataset[1])


def test_a_list_in_pages_is_read_to_its_end(server, config, dataset, downloader):
    entries = listed(dataset[1])
    pages = [entries[:4], entries[4:]]
    following = f"/api/datasets/{ID}/tree/{REVISION}?recursive=true&cursor=abc"
    bodies = [json.dumps(page).encode() for page in pages]
    head = f'HTTP/1.1 200 OK\r\nLink: <{server.url}{following}>; rel="next"\r\nContent-Length: {len(bodies[0])}\r\n\r\n'
    server.always(LIST, web.Raw(head.encode() + bodies[0]))
    server.always(following, web.Body(bodies[1], "application/json"))
    assert len(hub.list_files(config, downloader)) == 4
    server.always(LIST, web.Raw(head.replace(server.url, "http://127.0.0.1:9").encode() + bodies[0]))
    with pytest.raises(UserError, match="goes on at another server"):
        hub.list_files(config, downloader)


def changed(entries, **values):
    """The list with other values in its last entry."""
    return [*entries[:-1], entries[-1] | values]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: b"<html>login</html>", "is not the list of a data set: no JSON"),
        (lambda found: {"error": "no"}, "is not the list of a data set"),
        (lambda found: [*found, 3], "is not the list of a data set"),
        (lambda found: [], r"lists no train/\*.parquet"),
        (lambda found: changed(found, path="train/../../x.parquet"), r"lists no validation/\*.parquet"),
        (lambda found: changed(found, path="/etc/x.parquet"), r"lists no validation/\*.parquet"),
        (lambda found: changed(found, lfs=None), "states no sha256 and size of validation/000.parquet"),
        (lambda found: changed(found, lfs={"oid": "0" * 63, "size": 1}), "states no sha256 and size"),
        (lambda found: changed(found, lfs={"oid": "0" * 64, "size": -1}), "states no sha256 and size"),
        (lambda found: [*found, found[-1]], "lists validation/000.parquet twice"),
    ],
)
def test_a_list_is_not_trusted(server, config, dataset, downloader, change, says):
    made = change(listed(dataset[1]))
    server.always(LIST, web.Body(made if isinstance(made, bytes) else json.dumps(made).encode()))
    with pytest.raises(UserError, match=says):
        hub.list_files(config, downloader)


def test_wrong_bytes_and_a_missing_data_set_are_one_line(server, config, dataset, downloader, tmp_path, capsys):
    found = listed(dataset[1])
    found[-1]["lfs"]["oid"] = "0" * 64
    server.always(LIST, web.Body(json.dumps(found).encode()))
    with pytest.raises(UserError, match=r"validation/000.parquet: sha256 is .* where http.* says 0{64}, 3 times over"):
        hub.run(tmp_path / "dataset", config, downloader)
    server.always(LIST, web.Status(404))
    options = {**config.model_dump(mode="json"), "attempts": 1}
    assert main(["release", "dataset", "--config", json.dumps(options), "--output", str(tmp_path / "x")]) == 1
    assert "the Hub has no such data set or commit" in capsys.readouterr().err
