"""`unirefine release` from the command line: what it prints, and how it fails."""

import json
import re

import pytest

from unirefine.cli.main import main


def test_fetch_and_collect(site, tmp_path, capsys):
    block = json.dumps({"mirrors": [f"file:{site}"], "name": "2026_03"})
    for name in ("uniref50.fasta.gz", "uniref50.release_note"):
        assert main(["release", "fetch", "--config", block, "--file", name, "--output", str(tmp_path / name)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("uniref50.release_note of release 2026_03: 304 B, md5 ")
    names = ["uniref50.fasta.gz", "uniref50.release_note"]
    output = tmp_path / "release.json"
    assert (
        main(["release", "collect", "--config", block, "--directory", str(tmp_path), "--output", str(output),
              "--files", *names]) == 0
    )  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1].startswith("release 2026_03: 2 files, ")
    assert [entry["file"] for entry in json.loads(output.read_text())["files"]] == names


def test_archive(site, tmp_path, capsys):
    block = json.dumps({"source": "archive", "name": "2024_03", "mirrors": [f"file:{site}"]})
    assert main(["release", "archive", "--config", block, "--output", str(tmp_path)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "uniref90.xml.gz", "uniref90.release_note", "uniref50.xml.gz", "uniref50.release_note",
    ]  # fmt: skip


def test_a_dead_address_is_one_line(tmp_path, capsys):
    output = tmp_path / "uniref50.xml.gz"
    status = main(
        ["release", "fetch", "--set", "mirrors=[http://127.0.0.1:9]", "--set", "attempts=1",
         "--file", "uniref50.xml.gz", "--output", str(output)]
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert status == 1 and out == ""
    errors = [line for line in err.splitlines() if re.match(r"unirefine release( \w+)?: error: ", line)]
    assert len(errors) == 1 and err.splitlines()[-1] == errors[0]
    assert "127.0.0.1:9: " in errors[0] and errors[0].endswith("check the address, release.mirrors and your network")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["fetch", "archive", "collect"])
def test_help_ends_with_an_example(action, capsys):
    with pytest.raises(SystemExit):
        main(["release", action, "--help"])
    assert f"unirefine release {action} --" in capsys.readouterr().out.split("example:")[1]
