"""Before a workflow starts."""

import os
import subprocess

import pytest

from unirefine.config import parse_config
from unirefine.errors import UserError
from unirefine.workflow.preflight import require_files, require_writable, warning_of_future

OWN = {
    "release": {
        "source": "fasta",
        "fasta": "a b.fasta",
        "taxdump": "taxdump.tar.gz",
        "purge_lists": ["1.txt", "2.txt"],
    },
    "curate": {"designs": "designs.fasta"},
    "split": {"method": "ids", "ids": "ids.txt"},
    "decontaminate": {"against": ["wild types.fasta", {"file": "casp.fasta", "name": "casp15"}]},
    "train": {"init": "model", "validation": {"general": "results/other"}},
    "embed": {"fasta": "~/embed.fasta"},
}


def missing(config, **options):
    """The files that are reported, by key."""
    with pytest.raises(UserError) as caught:
        require_files(parse_config(config), **{"find_tools": False} | options)
    assert caught.value.line().count("no such file: ") == 1
    listed = caught.value.what.removeprefix("no such file: ").split(", ")
    return dict(each.split(": ", 1) for each in listed)


def test_all_files_that_are_missing_are_reported_with_their_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "release.fasta": "a b.fasta",
        "release.taxdump": "taxdump.tar.gz",
        "release.purge_lists[0]": "1.txt",
        "release.purge_lists[1]": "2.txt",
        "curate.designs": "designs.fasta",
        "split.ids": "ids.txt",
        "train.init": "model",
        "train.validation.general": "results/other",
        "embed.fasta": "~/embed.fasta",
        "decontaminate.against[0]": "wild types.fasta",
        "decontaminate.against[1]": "casp.fasta",
    }
    tools = {"tools": {"mmseqs": "no-such-mmseqs"}}
    assert missing(OWN | tools, find_tools=True) == files | {"tools.mmseqs": "no-such-mmseqs (no program)"}
    assert missing(OWN | tools) == files  # in a container it may be there
    for number, path in enumerate(files.values()):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).mkdir() if number in (1, 6, 7) else (tmp_path / path).touch()
    assert missing(OWN) == {
        "release.taxdump": "taxdump.tar.gz (a directory)",
        "train.validation.general": "results/other (no shards in it)",
    }
    (tmp_path / "results/other/shard").mkdir()
    (tmp_path / "results/other/shard/manifest.json").touch()
    (tmp_path / "taxdump.tar.gz").rmdir()
    (tmp_path / "taxdump.tar.gz").touch()
    require_files(parse_config(OWN), find_tools=True)


def test_a_file_that_no_rule_reads_need_not_be_there():
    require_files(parse_config({"release": {"fasta": "other.fasta", "taxdump": None}}), find_tools=True)


def test_sources_on_this_machine_are_needed_until_they_are_copied(tmp_path):
    site, downloads = tmp_path / "my site", tmp_path / "downloads"
    release = {
        "mirrors": [f"file:{site}"],
        "taxdump": f"file:{site}/t.tar.gz",
        "purge_lists": [f"file:{site}/p", "https://x"],
    }
    config = {"release": release | {"format": "xml"}}
    require_files(parse_config(config), find_tools=True)  # a dry run
    wrong = missing(config, downloads=downloads)
    assert set(wrong) == {"release.mirrors", "release.taxdump", "release.purge_lists[0]"}
    downloads.mkdir()
    (downloads / "taxdump.tar.gz").touch()
    assert set(missing(config, downloads=downloads)) == {"release.mirrors", "release.purge_lists[0]"}
    site.mkdir()
    assert set(missing(config, downloads=downloads)) == {"release.purge_lists[0]"}
    (site / "p").touch()
    require_files(parse_config(config), find_tools=True, downloads=downloads)


def test_an_address_of_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="cannot download over ftp, only over https, http or from a file: URL"):
        require_files(parse_config({"release": {"purge_lists": ["ftp://x/list.txt"]}}), find_tools=False)


def test_directories_that_are_missing_or_writable_pass(tmp_path):
    require_writable(tmp_path, tmp_path / "not yet")


def test_nothing_is_said_of_files_of_the_past_or_of_this_minute(tmp_path):
    (tmp_path / "a").write_text("")
    assert warning_of_future(tmp_path) is None
    assert warning_of_future(tmp_path, now=(tmp_path / "a").stat().st_mtime - 59) is None


def test_the_file_furthest_ahead_is_named_and_the_advice_works(tmp_path):
    (tmp_path / "below").mkdir()
    for name, ahead in [("a", 300), ("below/b", 7200), ("c", 0)]:
        (tmp_path / name).write_text("")
        now = (tmp_path / name).stat().st_mtime
        os.utime(tmp_path / name, (now + ahead, now + ahead))
    line = warning_of_future(tmp_path)
    assert line.startswith(f"{tmp_path}/below/b is dated 2:00:00 ahead") or "1:59:5" in line
    subprocess.run(line.split("then: ")[1].replace("{}", "'{}'"), shell=True, check=True)
    assert warning_of_future(tmp_path) is None


def test_a_missing_directory_has_no_files(tmp_path):
    assert warning_of_future(tmp_path / "none") is None
