"""From UniRef XML as UniProt writes it, through records and curate, beside what lxml reads in the same XML."""

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lxml import etree
from minisite.site import build_demo

from unirefine.cli.main import main

SPACE = "{http://uniprot.org/uniref}"
DEMO = Path(__file__).parents[3] / "resources" / "demo"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """300 clusters of the demo, as records and as what curate keeps of them."""
    root = tmp_path_factory.mktemp("site")
    build_demo(root / "site", limit=300)
    for level in ("uniref50", "uniref90"):
        source = xml(root, level)
        call("records", "--level", level, "--input", source, "--output", root / "records", "--set", "parts=3")
    curate = ["curate", "--records", root / "records", "--output", root / "curate"]
    call(*curate, "--taxdump", root / "site/taxonomy/taxdump.tar.gz", "--purge-list", DEMO / "purge.txt")
    return root


def call(*words):
    assert main([str(word) for word in words]) == 0


def xml(root, level):
    return root / "site" / "current_release" / "uniref" / level / f"{level}.xml.gz"


def members_in_xml(path):
    """UniRef90 members of every UniRef50 entry, by lxml."""
    found = {}
    with gzip.open(path) as file:
        for _event, entry in etree.iterparse(file, tag=f"{SPACE}entry"):
            named = entry.iterfind(f".//{SPACE}property[@type='UniRef90 ID']")
            found[entry.get("id")] = {one.get("value") for one in named}
    return found


def names(root, level):
    tables = [pq.read_table(path, columns=["id"]) for path in sorted((root / "records" / level).glob("records-*"))]
    return [name for table in tables for name in table["id"].to_pylist()]


def test_xml_and_idmapping_give_the_membership_that_lxml_reads(site):
    call("cluster", "--records", site / "records", "--curated", site / "curate", "--output", site / "cluster")
    clusters, members = names(site, "uniref50"), names(site, "uniref90")
    kept = [clusters[row] for row in pq.read_table(site / "cluster/clusters.parquet")["row"].to_pylist()]
    table = pq.read_table(site / "cluster/membership.parquet").to_pylist()
    found = {}
    for row in table:
        found.setdefault(kept[row["cluster"]], set()).add(members[row["row"]])
    removed = {row["id"] for row in pq.read_table(site / "curate/removed.parquet").to_pylist()}
    stated = members_in_xml(xml(site, "uniref50"))
    expected = {entry: named - removed for entry, named in stated.items() if entry not in removed and named - removed}
    assert found == expected and len(expected) > 250 and len(removed) >= 4
    assert any(len(named) > 3 for named in expected.values())

    mapping = next((site / "site").rglob("idmapping_selected.tab.gz"))
    other = ["--idmapping", mapping, "--output", site / "mapped"]
    call("cluster", "--records", site / "records", "--curated", site / "curate", *other)
    for name in ("clusters.parquet", "membership.parquet", "removed.parquet"):
        assert (site / "cluster" / name).read_bytes() == (site / "mapped" / name).read_bytes()


def test_the_release_is_consistent_and_its_counts_are_checked(site):
    output = site / "strict"
    arguments = ["--records", site / "records", "--curated", site / "curate", "--output", output]
    call("cluster", *arguments, "--set", "violations=error")
    assert pq.read_table(output / "violations.parquet").num_rows == 0


def test_what_curate_removed_has_its_reason(site):
    rows = pq.read_table(site / "curate/removed.parquet").to_pylist()
    reasons = {(row["level"], row["reason"]) for row in rows}
    assert {("uniref50", "artificial_taxon"), ("uniref90", "purge_list")} <= reasons
    for row in rows:
        if row["reason"] == "artificial_taxon":
            assert row["evidence"].endswith("is in the subtree of 81077")
        else:
            assert " is in purge.txt line " in row["evidence"]
