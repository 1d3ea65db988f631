"""`unirefine release check` against a local server."""

import json

import pytest

from unirefine.cli.main import main
from unirefine.files.atomic import write_json


@pytest.fixture
def run_of(tmp_path):
    """A function that writes results of a run of a release, and returns their directory."""

    def make(release):
        source = "current" if release else "fasta"
        path = tmp_path / "results/run/release/release.json"
        write_json(path, {"source": source, "release": release, "date": "2026-01-01", "files": []})
        return str(path.parents[1])

    return make


@pytest.mark.parametrize(
    ("release", "says", "newer"),
    [
        ("2024_03", "release 2026_03 is newer than 2024_03 (", True),
        ("2026_03", "release 2026_03 is the current one (", False),
        ("2026_04", "release 2026_04 is newer than 2026_03, which that mirror serves (", False),
    ],
)
def test_it_is_compared_with_what_is_served(server, run_of, capsys, release, says, newer):
    mirrors = json.dumps({"mirrors": ["http://127.0.0.1:9", server.url], "attempts": 1})
    arguments = ["release", "check", "--results", run_of(release), "--config", mirrors]
    assert main(arguments) == 0
    line = capsys.readouterr().out
    assert line.startswith(says) and line.count("\n") == 1
    assert f"{server.url}/current_release/uniref/uniref50/RELEASE.metalink" in line
    if newer:
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--exit-code", "--json"])
        assert left.value.code == 1
    else:
        assert main([*arguments, "--exit-code", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["release"], found["current"], found["newer"]) == (release, "2026_03", newer)


def test_mistakes_are_one_line(site, run_of, tmp_path, capsys):
    (tmp_path / "portal/current_release/uniref/uniref50").mkdir(parents=True)
    (tmp_path / "portal/current_release/uniref/uniref50/RELEASE.metalink").write_text("<html>log in</html>")
    results = run_of("2024_03")
    for mirror, message in (
        ("http://127.0.0.1:9", "check the address, release.mirrors and your network"),
        (f"file:{tmp_path}/portal", "is not a metalink but an HTML page"),
    ):
        block = json.dumps({"mirrors": [mirror], "attempts": 1})
        assert main(["release", "check", "--results", results, "--config", block]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("error:") == 1 and "Traceback" not in error
    block = json.dumps({"mirrors": [f"file:{site}"]})
    assert main(["release", "check", "--results", run_of(None), "--config", block]) == 1
    assert "is of no release of UniProt" in capsys.readouterr().err
    assert main(["release", "check", "--results", str(tmp_path), "--config", block]) == 1
    assert "no such file" in capsys.readouterr().err
