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


SPELLINGS = (
    *(
        "sp|P12345|A_B",
        '"P12345"',
        "p12345",
        "P12345,",
        "P12345.2",
        "UniRef90_P12345/1-20",
        "AF-P12345-F1",
        "\ufeffP12345",
    ),
    *("tr|P12345|A_B/3-9", "uniref50_p12345", "AF-P12345-F1-model_v4", "UniProtKB:P12345", ">sp|P12345|A_B long name"),
    *("P12345 # why", "P12345# why", "P12345#why", "\u2018P12345\u2019;", "P12345\r", "'P12345',"),
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_usual_spelling_of_an_accession_is_read(tmp_path, spelling):
    (tmp_path / "list.txt").write_bytes(f"{spelling}\nQ67890\n".encode())
    purge = read_purge_lists([tmp_path / "list.txt"])
    assert [name is not None for name in match(purge, "P12345", "P12346", "sp|P12345.3|X_Y", "Q67890", "P1234")] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert (len(purge.names), purge.duplicates) == (2, 0)


def test_ids_that_are_not_of_uniprot_are_taken_as_they_are(tmp_path):
    (tmp_path / "list.txt").write_text("gene.1\nSEQ/1-50\nhit#2\n'x'\n")
    purge = read_purge_lists([tmp_path / "list.txt"])
    assert match(purge, "gene.1", "SEQ/1-50", "hit#2", "x", "'x'") == ["gene.1", "SEQ/1-50", "hit#2", "'x'", "'x'"]
    assert match(purge, "gene", "gene.2", "GENE.1", "SEQ", "SEQ/2-50", "hit") == [None] * 6


def test_names_of_entries_match_the_representative_and_the_header_of_uniprotkb(tmp_path):
    (tmp_path / "list.txt").write_text("AATM_RABIT\ntau_human/3-40\nUniRef90_A0A1_B\n")
    purge = read_purge_lists([tmp_path / "list.txt"])
    ids = ["UniRef90_P12345", "UniRef90_P10636", "sp|P10636|TAU_HUMAN", "AATM_RABIT", "UniRef90_P00001"]
    keys = np.array([key_of(name.removeprefix("UniRef90_")) for name in ids], np.uint64)
    representatives = pa.array(["AATM_RABIT", "TAU_HUMAN", None, None, "UPI002E2621C6"])
    assert purge.match(keys, pa.array(ids), representatives).tolist() == [0, 1, 1, 0, -1]


def test_each_list_says_what_was_found_and_a_useless_one_is_an_error(tmp_path):
    (tmp_path / "one.txt").write_text("P10636\nP10637\nsp|P10636|TAU_HUMAN\n")
    (tmp_path / "two.txt").write_text("p10637\n" + "".join(f"Q6789{i}\n" for i in range(8)))
    purge = read_purge_lists([tmp_path / "one.txt", tmp_path / "two.txt"])
    assert purge.summary({0}) == [
        "one.txt: 1 of 2 ids found; not found: P10637",
        "two.txt: 0 of 9 ids found; not found: P10637, Q67890, Q67891, Q67892, Q67893 and 4 more",
    ]
    assert purge.duplicates == 2 and purge.missing({0})[0] == ("P10637", "one.txt line 2")
    purge.refuse_useless({1})
    with pytest.raises(UserError, match=r"two.txt: none of its 9 ids is a record here: P10637, .* and 4 more"):
        purge.refuse_useless({0})


def test_no_list_matches_nothing():
    assert match(read_purge_lists([]), "P10636") == [None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such purge list"),
        (b"# nothing\n\n", "no ids in this purge list"),
        (b"P10636\nnot an id\n", "line 2 is not one id"),
        (b"<!DOCTYPE html>\n", "line 1 is not one id"),
        (b"P10636 P10637\n", "line 1 is not one id"),
        (b'["P10636"]\n', "line 1 is not one id"),
        (b"P10636\x1b[31m\n", "line 1 is not one id"),
        (b"\x1f\x8b\x08\x00", "not UTF-8 text"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, content, message):
    path = tmp_path / "purge-0.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_purge_lists([path])
    assert str(path) in error.value.line()
