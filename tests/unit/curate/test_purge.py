import numpy as np
import pyarrow as pa
import pytest

from unirefine.core.ids import key_of
from unirefine.curate.purge import read_purge_lists
from unirefine.errors import UserError


def match(purge, *ids):
    found = purge.match(np.array([key_of(name) for name in ids], np.uint64), pa.array(ids))
    return [purge.names[at] if at >= 0 else None for at in found]


@pytest.fixture
def purge(tmp_path):
    (tmp_path / "one.txt").write_text("# header\nP10636\n\nUPI002E2621C6\nQ8N726-1  # p14ARF\n")
    (tmp_path / "two.txt").write_text("A0A009IHW8\nUniRef90_P12345\nP10636\nmy|own id\n".replace(" ", "_"))
    return read_purge_lists([tmp_path / "one.txt", tmp_path / "two.txt"])


def test_a_listed_accession_takes_its_isoforms_along(purge):
    assert match(purge, "P10636", "P10636-7", "P10636-511") == ["P10636"] * 3


def test_a_listed_isoform_takes_itself_only(purge):
    assert match(purge, "Q8N726-1", "Q8N726", "Q8N726-2") == ["Q8N726-1", None, None]


def test_upis_ten_letter_accessions_prefixed_ids_and_own_ids_match(purge):
    names = ["UPI002E2621C6", "A0A009IHW8", "P12345", "my|own_id"]
    assert match(purge, *names) == ["UPI002E2621C6", "A0A009IHW8", "UniRef90_P12345", "my|own_id"]
    assert match(purge, "UPI002E2621C7", "A0A009IHW9", "my|own_i") == [None] * 3


def test_the_accession_inside_a_uniprotkb_header_matches(purge):
    names = ["sp|P10636|TAU_HUMAN", "tr|A0A009IHW8|A0A009IHW8_ACIBA", "sp|P10636-8|TAU_HUMAN", "P12345"]
    assert match(purge, *names) == ["P10636", "A0A009IHW8", "P10636", "UniRef90_P12345"]
    assert match(purge, "sp|P10637|P10636", "xx|P10636|TAU_HUMAN", "sp|P10636") == [None] * 3


def test_sources_are_those_of_the_first_appearance(purge):
    source = dict(zip(purge.names, purge.sources, strict=True))
    assert source["P10636"] == "one.txt line 2"
    assert source["A0A009IHW8"] == "two.txt line 1"
    assert purge.duplicates == 1


def test_no_list_matches_nothing():
    assert match(read_purge_lists([]), "P10636") == [None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such purge list"),
        (b"# nothing\n\n", "no ids in this purge list"),
        (b"P10636\nnot an id\n", "line 2 is not one accession or UPI"),
        (b"<!DOCTYPE html>\n", "line 1 is not one accession or UPI"),
        (b"\x1f\x8b\x08\x00", "not text"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, content, message):
    path = tmp_path / "purge-0.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_purge_lists([path])
    assert str(path) in error.value.line()
