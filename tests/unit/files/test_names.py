"""Every name is parsed as it was made, and nothing else is."""

import pytest

from unirefine.files import names


@pytest.mark.parametrize("kind", ["records", "members"])
@pytest.mark.parametrize(("part", "parts"), [(0, 1), (63, 64), (998, 999)])
def test_record_parts(kind, part, parts):
    name = names.record_part(kind, part, parts)
    assert name == f"{kind}-{part:03d}-of-{parts:03d}.parquet"
    assert names.parse_record_part(name) == (kind, part, parts)


@pytest.mark.parametrize(
    "name", ["records-1-of-2.parquet", "other-000-of-001.parquet", "records-000-of-001.parquet.tmp", "counts.json"]
)
def test_other_files_are_no_record_parts(name):
    assert names.parse_record_part(name) is None


@pytest.mark.parametrize("number", [0, 9, 10, 123])
def test_purge_lists(number):
    assert names.parse_purge_list(names.purge_list(number)) == number


@pytest.mark.parametrize("name", ["purge.txt", "purge-a.txt", "purge-0.txt.json", "taxdump.tar.gz"])
def test_other_files_are_no_purge_lists(name):
    assert names.parse_purge_list(name) is None


def test_release_notes():
    assert names.parse_release_note(names.release_note("uniref50")) == "uniref50"
    for name in ("uniref50.xml.gz", "release_note", "uniref50.release_note.json"):
        assert names.parse_release_note(name) is None


def test_a_part_may_be_a_wildcard():
    assert names.search_part("{part}", 64) == "part-{part}-of-064"
    assert names.search_part(5, 64) == "part-005-of-064"


def test_shards():
    assert names.shard_names(2, ["validation"]) == ["train-000-of-002", "train-001-of-002", "validation"]
    assert names.shard_files("test") == ["test.bin", "test.idx", "test.ids.parquet"]


def test_downloads_of_a_release():
    assert names.release_files(["uniref50"], "xml") == ["uniref50.xml.gz", "uniref50.release_note"]
    assert names.release_files([], "xml", idmapping=True, taxdump=True, purge_lists=2) == [
        "idmapping_selected.tab.gz", "taxdump.tar.gz", "purge-0.txt", "purge-1.txt",
    ]  # fmt: skip
