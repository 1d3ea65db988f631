"""`unirefine trace` says which member's taxon removed an entry, and what went with it."""

import pytest

from unirefine.cli.main import main
from unirefine.core.crc64 import crc64_hex


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
        + entry("UniRef90", "Q00002", [("Q00002", "Q00002", 562)]),
    }
    for level, entries in levels.items():
        path = root / f"{level}.xml"
        path.write_text(f'<{level} xmlns="http://uniprot.org/uniref" version="2024_03">\n{entries}</{level}>\n')
        stage("records", "--level", level.lower(), "--input", path, "--output", root / "records", "--set", "parts=1")
    stage("curate", "--records", root / "records", "--output", root / "curate", "--set", "artificial_members=any")
    stage("cluster", "--records", root / "records", "--curated", root / "curate", "--output", root / "cluster")
    return root


def stage(*words):
    assert main([str(word) for word in words]) == 0


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
