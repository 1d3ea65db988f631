"""`unirefine trace` says which member's taxon removed an entry, and what went with it."""

import gzip

import pytest

from unirefine.cli.main import main
from unirefine.core.crc64 import crc64_hex
from unirefine.trace.members import find_in_xml


def entry(level: str, name: str, members: list[tuple[str, str, int]]) -> str:
    """An entry of `UniRef50` or `UniRef90`; members: (id, cluster at the other level, taxon), representative first."""
    other, sequence = "UniRef90" if level == "UniRef50" else "UniRef50", "MKVA"
    text = f'<entry id="{level}_{name}" updated="2024-05-29">\n<property type="member count" value="{len(members)}"/>\n'
    text += '<property type="common taxon" value="root"/>\n<property type="common taxon ID" value="1"/>\n'
    for number, (member, cluster, taxon) in enumerate(members):
        tag = "member" if number else "representativeMember"
        kind = f'"UniParc ID" id="{member}"' if member.startswith("UPI") else f'"UniProtKB ID" id="{member}_HUMAN"'
        accession = "" if member.startswith("UPI") else f'<property type="UniProtKB accession" value="{member}"/>\n'
        text += (
            f'<{tag}>\n<dbReference type={kind}>\n{accession}<property type="{other} ID" value="{other}_{cluster}"/>'
        )
        text += f'\n<property type="NCBI taxonomy" value="{taxon}"/>\n</dbReference>\n'
        if not number:
            text += f'<sequence length="4" checksum="{crc64_hex(sequence)}">{sequence}</sequence>\n'
        text += f"</{tag}>\n"
    return text + "</entry>\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """UniRef90_P00001: a human protein and two constructs. UniRef50_P00001: the same protein and UniRef90_Q00001."""
    root = tmp_path_factory.mktemp("run")
    levels = {
        "UniRef50": entry("UniRef50", "P00001", [("P00001", "P00001", 9606), ("Q00001", "Q00001", 562)])
        + entry("UniRef50", "Q00002", [("Q00002", "Q00002", 562)]),
        "UniRef90": entry(
            "UniRef90",
            "P00001",
            [("P00001", "P00001", 9606), ("P00002", "P00001", 32630), ("UPI00000000AA", "P00001", 32630)],
        )
        + entry("UniRef90", "Q00001", [("Q00001", "P00001", 562)])
        + entry("UniRef90", "Q00002", [("Q00002", "Q00002", 562), ("P00003", "Q00002", 562)]),
    }
    for level, entries in levels.items():
        path = root / "release" / f"{level.lower()}.xml.gz"
        path.parent.mkdir(exist_ok=True)
        text = f'<{level} xmlns="http://uniprot.org/uniref" version="2024_03">\n{entries}</{level}>\n'
        path.write_bytes(gzip.compress(text.encode()))
        stage("records", "--level", level.lower(), "--input", path, "--output", root / "records", "--set", "parts=1")
    stage("curate", "--records", root / "records", "--output", root / "curate", "--set", "artificial_members=any")
    stage("cluster", "--records", root / "records", "--curated", root / "curate", "--output", root / "cluster")
    return root


def stage(*words):
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("P00002", "P00002 is a member of UniRef90_P00001: UniRef90_P00001, record 0 of 3 in uniref90"),
        ("UPI00000000AA", "UPI00000000AA is a member of UniRef90_P00001: UniRef90_P00001, record 0"),
        ("Q00002_HUMAN", "Q00002_HUMAN is the representative of UniRef90_Q00002: UniRef90_Q00002, record 2"),
        ("P00003", "P00003 is a member of UniRef90_Q00002: UniRef90_Q00002, record 2"),
        ("p00003_human", "p00003_human is a member of UniRef90_Q00002: UniRef90_Q00002, record 2"),
        ("sp|Q00002.1|Q00002_HUMAN", "UniRef90_Q00002, record 2"),
        ("uniref50_q00002/2-3", "UniRef50_Q00002, record 1 of 2 in uniref50"),
        ("AF-Q00002-F1", "UniRef90_Q00002, record 2"),
    ],
)
def test_a_member_is_traced_as_the_record_it_belongs_to(run, capsys, name, how):
    """P00003 has its representative's taxon, so the records do not name it: the XML does."""
    capsys.readouterr()
    stage("trace", name, "--results", run)
    assert capsys.readouterr().out.splitlines()[0].startswith(f"records        {how}")


def test_an_id_that_is_nowhere_says_what_was_looked_at(run, capsys, monkeypatch):
    for size, text in ((1 << 30, "and at all members in"), (10, "not at all members in")):
        monkeypatch.setattr("unirefine.trace.members.LARGEST_SEARCH", size)
        assert main(["trace", "P00009", "--results", str(run)]) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert (
            "P00009 is not in this release: looked at the ids, representatives and members of another taxon of" in line
        )
        assert "3 records of uniref90 and 2 records of uniref50" in line
        assert f"{text} {run / 'release' / 'uniref90.xml.gz'}" in line
    assert ": search it with zgrep)" in line
    monkeypatch.setattr("unirefine.trace.members.LARGEST_SEARCH", 10)
    assert main(["trace", "P00003", "--results", str(run)]) == 1


@pytest.mark.parametrize("chunk", [300, 1000, 1 << 22])
def test_the_entry_of_a_member_is_found_at_any_boundary(run, monkeypatch, chunk):
    monkeypatch.setattr("unirefine.trace.members._CHUNK", chunk)
    path = run / "release" / "uniref90.xml.gz"
    found = [find_in_xml(path, word) for word in ("P00001", "P00002", "UPI00000000AA", "Q00001", "P00003", "P0000")]
    assert found == ["UniRef90_P00001"] * 3 + ["UniRef90_Q00001", "UniRef90_Q00002", None]


def last_line(capsys, run, name):
    capsys.readouterr()
    stage("trace", name, "--results", run)
    return " ".join(capsys.readouterr().out.splitlines()[-1].split())


def test_the_member_and_its_taxon_are_shown(run, capsys):
    evidence = "removed: artificial_taxon (member P00002's taxon 32630 is in the subtree of 81077)"
    assert last_line(capsys, run, "UniRef90_P00001") == f"curate {evidence}"


def test_what_went_along_is_followed_to_that_member(run, capsys):
    cause = (
        "UniRef90_P00001 removed: artificial_taxon (member P00002's taxon 32630 is in the subtree of 81077) by curate"
    )
    gone = "removed: cluster_removed (UniRef90_P00001 (artificial_taxon))"
    assert last_line(capsys, run, "UniRef50_P00001") == f"cluster {gone}; {cause}"
    assert last_line(capsys, run, "UniRef90_Q00001") == (
        f"cluster removed: cluster_removed (UniRef50_P00001); UniRef50_P00001 {gone} by cluster; {cause}"
    )
