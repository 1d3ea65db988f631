"""release.json, and the comparison with what is published."""

import hashlib
import re

import pytest

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.atomic import read_json, write_json
from unirefine.release import collect, fetch
from unirefine.release.collect import SOURCES

FILES = ["uniref50.release_note", "uniref50.fasta.gz", "purge-0.txt"]
HEADING = "release\tfile\turl\tsize\tmd5\tentries\tlicence\tsource\n"


@pytest.fixture
def config(site):
    return Release(mirrors=(f"file:{site}",), purge_lists=(str(SOURCES.parents[1] / "resources/demo/purge.txt"),))


@pytest.fixture
def downloads(config, tmp_path):
    for name in FILES:
        fetch.run(name, tmp_path / name, config)
    return tmp_path


def test_collects(config, downloads):
    lines = collect.run(downloads, FILES, downloads / "release.json", config)
    written = read_json(downloads / "release.json")
    assert written["source"] == "current" and written["release"] == "2026_03"
    assert [entry["file"] for entry in written["files"]] == FILES
    assert written["date"] == max(entry["date"] for entry in written["files"])
    assert lines[-1].startswith("release 2026_03: 3 files, ")


def test_reports_what_is_published(config, downloads, tmp_path):
    size = (downloads / "uniref50.fasta.gz").stat().st_size
    table = tmp_path / "sources.tsv"
    table.write_text(
        "# comment\n" + HEADING
        + f"2026_03\tuniref50.fasta.gz\t\t{size}\t{'0' * 32}\t\tCC BY 4.0\tmetalink\n"
        + "2026_03\tuniref50.release_note\t\t\t\t121\tCC BY 4.0\tnote\n"
        + "2026_03\tuniref90.fasta.gz\t\t1\t\t\tCC BY 4.0\tmetalink\n"
        + "2024_03\tuniref50.release_note\t\t\t\t7\tCC BY 4.0\tnote\n"
    )  # fmt: skip
    lines = collect.run(downloads, FILES, downloads / "release.json", config, table)
    assert lines[0] == f"uniref50.fasta.gz: size {size} (as published, metalink)"
    assert re.fullmatch(r"uniref50\.fasta\.gz: md5 \w{32} \(published: 0{32}, metalink\)", lines[1])
    assert lines[2] == "uniref50.release_note: entries 120 (published: 121, note)"
    assert len(lines) == 4
    assert len(read_json(downloads / "release.json")["published"]) == 3


def test_files_of_different_releases(config, downloads):
    facts = read_json(downloads / "uniref50.fasta.gz.json")
    write_json(downloads / "uniref50.fasta.gz.json", facts | {"release": "2026_02"})
    with pytest.raises(UserError, match=r"different releases: uniref50\.release_note 2026_03, uniref50.* 2026_02"):
        collect.run(downloads, FILES, downloads / "release.json", config)
    assert not (downloads / "release.json").exists()


def test_changed_or_missing_download(config, downloads):
    (downloads / "purge-0.txt").write_text("P12345\n")
    with pytest.raises(UserError, match=r"purge-0\.txt: has 7 bytes, its download had \d+"):
        collect.run(downloads, FILES, downloads / "release.json", config)
    (downloads / "purge-0.txt").unlink()
    with pytest.raises(UserError, match=r"purge-0\.txt: is missing"):
        collect.run(downloads, FILES, downloads / "release.json", config)


def test_a_custom_fasta_is_described_like_a_download(tmp_path):
    fasta = tmp_path / "mine.fasta"
    settings = Release(source="fasta", fasta=str(fasta))
    with pytest.raises(UserError, match=r"mine\.fasta: no such file; set release\.fasta"):
        collect.run(tmp_path, [], tmp_path / "release.json", settings)
    fasta.write_text(">a\nMKV\n")
    assert collect.run(tmp_path, [], tmp_path / "release.json", settings) == ["release (your FASTA): 1 files, 7 bytes"]
    written = read_json(tmp_path / "release.json")
    assert written["source"] == "fasta"
    assert written["files"][0]["md5"] == hashlib.md5(fasta.read_bytes()).hexdigest()


def rewrite_note(downloads, text):
    """The release note as if it had been downloaded with this text."""
    note = downloads / FILES[0]
    note.write_text(text)
    described = note.with_name(f"{note.name}.json")
    write_json(described, read_json(described) | {"size": note.stat().st_size})


def test_entries_are_those_that_the_records_stage_reads(config, downloads):
    rewrite_note(downloads, "UniRef50 Release 2026_03 consists of 38,840,027 clusters.\n")
    collect.run(downloads, FILES, downloads / "release.json", config)
    assert read_json(downloads / "release.json")["entries"] == {"uniref50": 38_840_027}


def test_a_release_note_without_a_count_is_one_line(config, downloads):
    rewrite_note(downloads, "UniRef50, nothing of the kind\n")
    with pytest.raises(UserError, match=r"uniref50\.release_note: states no number of clusters; fetch it again"):
        collect.run(downloads, FILES, downloads / "release.json", config)
    assert not (downloads / "release.json").exists()


def test_sources_table_is_well_formed():
    lines = [line for line in SOURCES.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] + "\n" == HEADING
    for line in lines[1:]:
        release, _file, url, size, md5, entries, licence, source = line.split("\t")
        assert re.fullmatch(r"20\d\d_\d\d", release) and licence == "CC BY 4.0" and source
        assert url == "" or url.startswith("https://ftp.uniprot.org/pub/databases/uniprot/")
        assert re.fullmatch(r"\d*", size) and re.fullmatch(r"(\w{32})?", md5) and re.fullmatch(r"\d*", entries)


def test_other_downloads_are_deleted_when_asked_unless_another_run_shares_them(config, downloads):
    directory, kept = downloads / "results/first/release", FILES[:2]
    directory.mkdir(parents=True)
    for name in FILES:
        for suffix in ("", ".json"):
            (downloads / f"{name}{suffix}").rename(directory / f"{name}{suffix}")
    (directory / "notes.txt").write_text("mine")
    everything = {path.name for path in directory.iterdir()}
    release = directory / "release.json"
    collect.run(directory, kept, release, config)
    places = downloads / "results/second/places.json"
    write_json(places, {"release": "../first/release"})
    lines = collect.run(directory, kept, release, config, delete_others=True)
    assert not any(line.startswith("deleted") for line in lines)
    assert {path.name for path in directory.iterdir()} == everything | {"release.json"}
    places.unlink()
    lines = collect.run(directory, kept, release, config, delete_others=True)
    assert lines[-2] == "deleted purge-0.txt, which this config does not ask for"
    assert {path.name for path in directory.iterdir()} == (everything | {"release.json"}) - {
        "purge-0.txt", "purge-0.txt.json",
    }  # fmt: skip
