"""Entries of curate.exclude, each with a reason of its own."""

import json

import pyarrow.parquet as pq
import pytest

from unirefine.config import Curate, parse_config
from unirefine.curate.run import run as curate
from unirefine.errors import UserError

VIRUSES, CORONAVIRUSES, HUMAN, SYNTHETIC = 10239, 11118, 9606, 32630
RECORDS = [
    {"id": "P00001", "sequence": "MKV", "taxon_id": HUMAN, "fragment": True},
    {"id": "P00002", "sequence": "MKV", "taxon_id": 694009, "fragment": True},
    {"id": "P00003", "sequence": "MKV", "taxon_id": 1, "rep_taxon_id": CORONAVIRUSES, "fragment": False},
    {"id": "P00004", "sequence": "MKV", "taxon_id": SYNTHETIC, "fragment": False},
    {"id": "P00005", "sequence": "MKV", "taxon_id": HUMAN, "fragment": None},
    {"id": "P00006", "sequence": "MKV", "taxon_id": HUMAN, "fragment": False},
    {"id": "P00007", "sequence": "MKV", "taxon_id": 12345, "fragment": False},
]
ENTRIES = [
    {"name": "eukaryotic_virus", "taxa": [CORONAVIRUSES]},
    {"name": "held_back", "purge_list": "list.txt"},
    {"name": "fragment", "fragments": True},
]


@pytest.fixture
def taxdump(tmp_path):
    """A taxonomy with viruses, of which 12345 are no coronaviruses."""
    import tarfile

    parents = {1: 1, VIRUSES: 1, CORONAVIRUSES: VIRUSES, 694009: CORONAVIRUSES, 12345: VIRUSES, HUMAN: 1}
    parents |= {28384: 1, 81077: 28384, SYNTHETIC: 81077}
    (tmp_path / "nodes.dmp").write_text("".join(f"{one}\t|\t{up}\t|\n" for one, up in parents.items()))
    with tarfile.open(tmp_path / "taxdump.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "nodes.dmp", "nodes.dmp")
    return tmp_path / "taxdump.tar.gz"


@pytest.fixture
def excluded(make_records, taxdump, tmp_path, monkeypatch):
    """(entries) -> (reason, evidence) by id."""
    records = make_records({"uniref90": RECORDS})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("P00006\n")

    def run(*entries, dump=taxdump, **options):
        config = Curate(exclude=entries, **options)
        run.done = curate(config, records, ["uniref90"], tmp_path / "out", taxdump=dump)
        rows = pq.read_table(tmp_path / "out/removed.parquet").to_pylist()
        return {row["id"].removeprefix("UniRef90_"): (row["reason"], row["evidence"]) for row in rows}

    return run


def test_each_entry_removes_with_its_own_reason(excluded, tmp_path):
    assert excluded(*ENTRIES) == {
        "P00001": ("fragment", "its name says (Fragment)"),
        "P00002": ("eukaryotic_virus", "common taxon 694009 is in the subtree of 11118"),
        "P00003": ("eukaryotic_virus", "representative's taxon is 11118"),
        "P00004": ("artificial_taxon", "common taxon 32630 is in the subtree of 81077"),
        "P00006": ("held_back", "P00006 is in list.txt line 1"),
    }
    counts = json.loads((tmp_path / "out/counts.json").read_text())
    assert counts["levels"]["uniref90"]["removed"] == {
        "artificial_taxon": 1, "eukaryotic_virus": 2, "fragment": 1, "held_back": 1,
    }  # fmt: skip
    assert counts["exclude"]["held_back"]["purge_list"] == "list.txt"
    inputs = json.loads((tmp_path / "out/lineage.json").read_text())["steps"][-1]["inputs"]
    assert [one["file"] for one in inputs] == ["list.txt"]


def test_an_entry_has_its_own_rule_on_members_and_may_have_several_criteria(excluded):
    both = {"name": "both", "taxa": [CORONAVIRUSES], "members": "none", "purge_list": "list.txt"}
    found = excluded(both, artificial_taxa=())
    assert {name: reason for name, (reason, _evidence) in found.items()} == {"P00002": "both", "P00006": "both"}
    assert excluded() == {"P00004": ("artificial_taxon", "common taxon 32630 is in the subtree of 81077")}


@pytest.mark.parametrize(
    ("entry", "options", "says"),
    [
        (
            {"name": "virus", "taxa": [CORONAVIRUSES]},
            {"dump": None},
            "has taxa, and without a taxonomy",
        ),
        ({"name": "virus", "taxa": [28384]}, {}, None),
        ({"name": "virus", "taxa": [777]}, {}, "nodes.dmp has no taxon 777"),
        ({"name": "list", "purge_list": "none.txt"}, {}, "no such purge list"),
    ],
)
def test_an_entry_that_selects_nothing_is_refused(excluded, tmp_path, entry, options, says):
    if says is None:
        assert excluded(entry, artificial_taxa=())
        return
    with pytest.raises(UserError, match=says):
        excluded(entry, **options)


def test_lists_and_fragments_of_which_nothing_is_there_are_refused(excluded, make_records, tmp_path):
    (tmp_path / "list.txt").write_text("P99999\n")
    with pytest.raises(UserError, match="none of its 1 ids is a record here"):
        excluded({"name": "list", "purge_list": "list.txt"})
    assert excluded({"name": "list", "purge_list": "list.txt"}, allow_unmatched=True).keys() == {"P00004"}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{"name": "x"}], "curate.exclude: x has no taxa, purge_list, designs or fragments"),
        ([{"name": "too_short", "taxa": [1]}], "the name 'too_short' is there already"),
        ([{"name": "x", "taxa": [1]}, {"name": "x", "fragments": True}], "the name 'x' is there already"),
        ([{"name": "Not a name", "taxa": [1]}], "curate.exclude.0.name"),
        ([{"name": "x", "purge_list": "https://example.org/x"}], "is a URL; give it to release.purge_lists"),
        ([{"name": "x", "taxon": [1]}], "unknown key 'curate.exclude.0.taxon'; did you mean 'taxa'"),
    ],
)
def test_a_mistake_in_an_entry_is_one_line(entries, says):
    with pytest.raises(UserError, match=says):
        parse_config({"curate": {"exclude": entries}})
