import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.cluster.run import FILES
from unirefine.cluster.run import run as cluster
from unirefine.config import Cluster
from unirefine.core.removed import SCHEMA
from unirefine.errors import UserError
from unirefine.files.atomic import read_json

CLUSTERS = ["P00003", "P00001", "UPI0000000001", "P00002"]
MEMBERS = ["Q00001", "Q00002", "Q00003", "Q00004", "Q00005", "Q00006", "P00001-2"]
OWNERS = dict(zip(MEMBERS, ["P00001", "P00001", "P00002", "P00002", "P00003", "P00003", "P00001"], strict=True))


def tidy(run, *, dropped=(), claims=OWNERS, both=True, **options):
    listed = options.get("listed", {})
    run.level(
        "uniref50",
        CLUSTERS[:2] + CLUSTERS[3:],
        dropped=dropped,
        counts=options.get("stated"),
        listed=listed.get("uniref50"),
    )
    run.level("uniref90", MEMBERS, dropped=dropped, counts=options.get("counts"), listed=listed.get("uniref90"))
    run.members("uniref50", [(owner, member) for member, owner in claims.items()])
    if both:
        run.members("uniref90", claims.items())
    return run


def listed(run, name):
    return {(row["id"], row["reason"], row["evidence"]) for row in run.read(name)}


def test_the_tables_and_their_order(run):
    counts = cluster(Cluster(), *tidy(run).paths)
    assert run.read("clusters.parquet") == [
        {"key": key, "row": row, "length": 5 + row, "size": size}
        for (row, size), key in zip([(1, 3), (2, 2), (0, 2)], sorted(_keys("P00001", "P00002", "P00003")), strict=True)
    ]
    metadata = pq.ParquetFile(run.paths[2] / "clusters.parquet").metadata.metadata
    assert metadata[b"representative_level"] == b"uniref50"
    assert [(row["cluster"], row["row"], row["length"]) for row in run.read("membership.parquet")] == [
        (0, 6, 11),
        (0, 0, 5),
        (0, 1, 6),
        (1, 2, 7),
        (1, 3, 8),
        (2, 4, 9),
        (2, 5, 10),
    ]
    assert listed(run, "removed.parquet") == listed(run, "violations.parquet") == set()
    assert counts == {key: value for key, value in _counts(run).items() if key != "stage"}
    assert counts["sources"] == ["uniref50.xml", "uniref90.xml"]


def test_what_a_fasta_of_your_own_left_goes_and_files_of_others_stay(run):
    output = tidy(run).paths[2]
    output.mkdir()
    for name in ("mmseqs.log", "notes.txt"):
        (output / name).touch()
    cluster(Cluster(), *run.paths)
    assert {path.name for path in output.iterdir()} == {*FILES, "notes.txt"}


def _keys(*names):
    from unirefine.core.ids import key_of

    return [key_of(name) for name in names]


def _counts(run):
    return read_json(run.paths[2] / "counts.json")


def test_what_goes_with_a_removed_cluster_and_what_is_left_empty(run):
    tidy(run, dropped=["P00002", "Q00005", "Q00006"])
    cluster(Cluster(), *run.paths)
    assert listed(run, "removed.parquet") == {
        ("UniRef90_Q00003", "cluster_removed", "UniRef50_P00002"),
        ("UniRef90_Q00004", "cluster_removed", "UniRef50_P00002"),
        ("UniRef50_P00003", "no_members", "none of its 2 UniRef90 members was kept"),
    }
    assert _counts(run)["levels"] == {
        "uniref50": {"in": 2, "kept": 1, "removed": {"no_members": 1}},
        "uniref90": {"in": 5, "kept": 3, "removed": {"cluster_removed": 2}},
    }


def test_contradictions_are_listed_with_who_says_what(run):
    stated = [3, 9, 4]  # P00003, P00001, P00002
    tidy(run, claims=OWNERS | {"Q00007": "P00003"}, stated=stated, counts=[2, 2, 2, 2, 2, 1, 5])
    wrong = {member: owner for member, owner in OWNERS.items() if member not in ("Q00001", "Q00002")}
    run.members("uniref90", (wrong | {"Q00003": "P00003", "Q00004": "Q99999"}).items())
    cluster(Cluster(), *run.paths)
    two = {
        ("UniRef90_Q00003", "two_clusters", "UniRef50_P00002, UniRef50_P00003"),
        ("UniRef90_Q00004", "two_clusters", "UniRef50_P00002, UniRef50_Q99999 (not among the records)"),
    }
    empty = {("UniRef50_P00002", "no_members", "no UniRef90 belongs to it")}
    assert listed(run, "removed.parquet") == two | empty
    assert listed(run, "violations.parquet") == two | {
        ("UniRef50_P00003", "missing_member", "names UniRef90_Q00007, which is not among the records"),
        ("UniRef90_Q00001", "one_source", "uniref50.xml alone puts it in UniRef50_P00001"),
        ("UniRef90_Q00002", "one_source", "uniref50.xml alone puts it in UniRef50_P00001"),
    }
    counts = _counts(run)
    assert counts["member_counts"] == {"checked": 2, "wrong": 0}
    assert counts["violations"] == {
        "uniref50": {"missing_member": 1},
        "uniref90": {"one_source": 2, "two_clusters": 2},
    }


def test_a_member_count_that_is_not_the_sum_is_listed_and_unstated_ones_are_not_checked(run):
    tidy(run, stated=[3, 9, None], counts=[2, 2, 2, 2, 2, 2, 5], both=False, dropped=["Q00001"])
    cluster(Cluster(violations="error"), *run.paths)
    assert listed(run, "violations.parquet") == {
        ("UniRef50_P00003", "member_count", "states 3 members, its 2 UniRef90 clusters state 4")
    }
    assert _counts(run)["member_counts"] == {"checked": 2, "wrong": 1}


def test_violations_can_stop_the_stage(run):
    claims = {member: owner for member, owner in OWNERS.items() if member != "Q00006"}
    tidy(run, claims=claims)
    run.members("uniref90", (claims | {"Q00001": "P00002"}).items())
    with pytest.raises(UserError, match=r"1 UniRef90 in no UniRef50 \(such as UniRef90_Q00006\) and 1 UniRef90 in two"):
        cluster(Cluster(violations="error"), *run.paths)
    assert not run.paths[2].exists()
    cluster(Cluster(), *run.paths)
    assert {row["reason"] for row in run.read("removed.parquet")} == {"no_cluster", "two_clusters"}


def test_another_number_of_members_than_stated_is_a_violation_at_its_level(run, capsys):
    stated, counts = [4, None, 4], [2, 2, 2, 2, 2, 2, None]
    listed = {"uniref50": [4, 3, 7], "uniref90": [2, 2, 1, 2, 2, 3, 2]}
    tidy(run, stated=stated, counts=counts, listed=listed)
    records, curated, output = map(str, run.paths)
    assert main(["cluster", "--records", records, "--curated", curated, "--output", output]) == 0
    assert "violations: listed_members 3; member" in capsys.readouterr().out
    assert listed_of(run) == {
        ("uniref50", "UniRef50_P00002", "states 4 members, lists 7"),
        ("uniref90", "UniRef90_Q00003", "states 2 members, lists 1"),
        ("uniref90", "UniRef90_Q00006", "states 2 members, lists 3"),
    }
    assert _counts(run)["listed_members"] == {
        "uniref50": {"checked": 2, "wrong": 1},
        "uniref90": {"checked": 6, "wrong": 2},
    }
    assert run.read("removed.parquet") == []
    message = (
        r"1 UniRef50 with another number of members than stated \(such as UniRef50_P00002\)"
        r" and 2 UniRef90 with .* \(such as UniRef90_Q00003, UniRef90_Q00006\)"
    )
    with pytest.raises(UserError, match=message):
        cluster(Cluster(violations="error"), *run.paths)


def listed_of(run):
    rows = run.read("violations.parquet")
    return {(row["level"], row["id"], row["evidence"]) for row in rows if row["reason"] == "listed_members"}


REPRESENTED = ["P00001", "Q00001", "P00002", "Q00002", "P00003", "P10636-600"]
"""UniRef90 of three clusters, each with the one that has the representative's sequence; the last is of P00003."""


@pytest.mark.parametrize("membership", ["xml", "idmapping"])
def test_a_representative_removed_at_uniref90_takes_its_cluster_along(run, membership):
    """Curate removed P00001 at UniRef90 only, the records stage P00003; P00002 was removed at both levels."""
    owners = dict(zip(REPRESENTED, ["P00001", "P00001", "P00002", "P00002", "P00003", "P00003"], strict=True))
    clusters = ["P00001", "P00002", "P00003", "UPI0000000001"]
    run.level("uniref50", clusters, dropped=["P00002"])
    run.level("uniref90", [name for name in REPRESENTED if name != "P00003"] + ["Q00003"], dropped=["P00001", "P00002"])
    owners["Q00003"] = "UPI0000000001"  # represented by a sequence that is no UniRef90 here
    run.members("uniref50", [(owner, member) for member, owner in owners.items()])
    row = {"level": "uniref90", "id": "UniRef90_P00003", "reason": "wrong_checksum", "evidence": ""}
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), run.paths[0] / "uniref90" / "removed.parquet")
    path = run.directory / "idmapping_selected.tab"
    rows = [[""] * 8 + [f"UniRef90_{member}", f"UniRef50_{owner}"] + [""] * 12 for member, owner in owners.items()]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    cluster(Cluster(), *run.paths, idmapping=path if membership == "idmapping" else None)
    assert listed(run, "removed.parquet") == {
        ("UniRef50_P00001", "cluster_removed", "UniRef90_P00001 (purge_list)"),
        ("UniRef50_P00003", "cluster_removed", "UniRef90_P00003 (wrong_checksum)"),
        ("UniRef90_Q00001", "cluster_removed", "UniRef50_P00001"),
        ("UniRef90_Q00002", "cluster_removed", "UniRef50_P00002"),
        ("UniRef90_P10636-600", "cluster_removed", "UniRef50_P00003"),
    }
    assert _counts(run)["levels"] == {
        "uniref50": {"in": 3, "kept": 1, "removed": {"cluster_removed": 2}},
        "uniref90": {"in": 4, "kept": 1, "removed": {"cluster_removed": 3}},
    }
    assert [row["key"] for row in run.read("clusters.parquet")] == _keys("UPI0000000001")
    assert listed(run, "violations.parquet") == set()


def test_what_the_records_stage_removed_is_no_contradiction(run):
    tidy(run, claims=OWNERS | {"Q00009": "P00001", "Q00006": "P00009"}, both=False)
    for level, name in (("uniref90", "UniRef90_Q00009"), ("uniref50", "UniRef50_P00009")):
        row = {"level": level, "id": name, "reason": "bad_checksum", "evidence": ""}
        pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), run.paths[0] / level / "removed.parquet")
    cluster(Cluster(violations="error"), *run.paths)
    assert listed(run, "removed.parquet") == {("UniRef90_Q00006", "cluster_removed", "UniRef50_P00009")}
    assert listed(run, "violations.parquet") == set()


def test_idmapping_gives_the_same_tables_as_xml(run, new_run):
    cluster(Cluster(), *tidy(run).paths)
    other = new_run(parts=1)
    other.level("uniref50", CLUSTERS[:2] + CLUSTERS[3:])
    other.level("uniref90", MEMBERS)
    rows = [["", ""] * 4 + [f"UniRef90_{member}", f"UniRef50_{owner}"] + [""] * 12 for member, owner in OWNERS.items()]
    path = other.directory / "idmapping_selected.tab.gz"
    path.write_bytes(gzip.compress("".join("\t".join(row) + "\n" for row in rows * 3).encode()))
    counts = cluster(Cluster(), *other.paths, idmapping=path)
    for name in ("clusters.parquet", "membership.parquet", "removed.parquet", "violations.parquet"):
        assert (run.paths[2] / name).read_bytes() == (other.paths[2] / name).read_bytes()
    assert counts["claims"] == 3 * len(OWNERS)


def test_an_unmapped_member_says_what_does_not_map_it(run):
    tidy(run)
    path = run.directory / "idmapping_selected.tab"
    path.write_text("\t".join([""] * 8 + ["UniRef90_Q00001", "UniRef50_P00001"] + [""] * 12) + "\n")
    cluster(Cluster(), *run.paths, idmapping=path)
    assert ("UniRef90_Q00002", "no_cluster", "idmapping_selected.tab puts it in no UniRef50") in listed(
        run, "removed.parquet"
    )


def mapped(run, claims):
    """idmapping_selected.tab with one line per claim."""
    path = run.directory / "idmapping_selected.tab"
    lines = ["\t".join([""] * 8 + [f"UniRef90_{a}", f"UniRef50_{b}"] + [""] * 12) for a, b in claims]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_idmapping_keeps_clusters_of_uniparc_by_their_name_and_says_what_it_loses(run, capsys):
    """UPI...1 represents both levels, UPI...2 is another UniRef90, UPI...3 a UniRef50 with no UniRef90 of its name."""
    run.level("uniref50", ["P00001", "UPI0000000001", "UPI0000000003"])
    run.level("uniref90", ["P00001", "UPI0000000001", "UPI0000000002"])
    path = mapped(run, [("P00001", "P00001")])
    records, curated, output = map(str, run.paths)
    argv = ["cluster", "--records", records, "--curated", curated, "--output", output]
    assert main([*argv, "--idmapping", str(path)]) == 0
    assert listed(run, "removed.parquet") == {
        ("UniRef90_UPI0000000002", "no_cluster", "idmapping_selected.tab puts it in no UniRef50"),
        ("UniRef50_UPI0000000003", "no_members", "no UniRef90 belongs to it"),
    }
    assert _counts(run)["placed_by_name"] == 1
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "1 UniRef90 (33.3%) and 1 UniRef50 (33.3%) are lost" in warning and "1 were placed by name" in warning


def test_a_claim_wins_over_the_name_and_the_contradiction_is_listed(run):
    """For both sources; claims of a cluster that is not there, or of two clusters, are not replaced by the name."""
    names = ["P00001", "P00002", "P00003", "P00004"]
    claims = [("P00001", "P00002"), ("P00002", "P00002"), ("P00003", "Q99999"), ("P00004", "P00002"),
              ("P00004", "P00001")]  # fmt: skip
    expected = {("UniRef90_P00001", "named_elsewhere", "in UniRef50_P00002, although UniRef50_P00001 exists")}
    for level in ("uniref50", "uniref90"):
        run.level(level, names)
    run.members("uniref50", [(cluster_name, member) for member, cluster_name in claims])
    for idmapping in (mapped(run, claims), None):
        cluster(Cluster(), *run.paths, idmapping=idmapping)
        assert {one for one in listed(run, "violations.parquet") if one[1] == "named_elsewhere"} == expected
        assert {(name, why) for name, why, _ in listed(run, "removed.parquet") if name.startswith("UniRef90")} == {
            ("UniRef90_P00003", "no_cluster"), ("UniRef90_P00004", "two_clusters"),
        }  # fmt: skip


def test_names_do_not_hide_an_idmapping_of_another_release(run):
    for level in ("uniref50", "uniref90"):
        run.level(level, ["P00001", "P00002"])
    path = mapped(run, [("Q77777", "Q88888")])
    with pytest.raises(UserError, match="none of 1 statements names a UniRef90 and a UniRef50"):
        cluster(Cluster(), *run.paths, idmapping=path)


def test_xml_places_nothing_by_name(run):
    for level in ("uniref50", "uniref90"):
        run.level(level, ["P00001", "P00002"])
    run.members("uniref50", [("P00001", "P00001")])
    cluster(Cluster(), *run.paths)
    assert ("UniRef90_P00002", "no_cluster", "uniref50.xml puts it in no UniRef50") in listed(run, "removed.parquet")


def break_duplicate(run):
    run.level("uniref90", [*MEMBERS, "Q00001"])


def break_curated(run):
    counts = read_json(run.paths[1] / "counts.json")
    counts["levels"]["uniref90"]["kept"] += 1
    (run.paths[1] / "counts.json").write_text(json.dumps(counts))


def break_records(run):
    counts = read_json(run.paths[1] / "counts.json")
    counts["levels"]["uniref90"]["in"] += 1
    (run.paths[1] / "counts.json").write_text(json.dumps(counts))


def break_members(run):
    for path in (run.paths[0] / "uniref50").glob("members-*"):
        path.unlink()


def break_release(run):
    run.members("uniref50", [("Q77777", "Q88888")])
    run.members("uniref90", [])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_duplicate, "records 0 and 7 have one key: UniRef90_Q00001 and UniRef90_Q00001"),
        (break_curated, "7 rows, but counts.json says 8"),
        (break_records, "made from 8 records, but there are 7"),
        (break_members, "no members files, which only UniRef XML gives"),
        (break_release, "none of 1 statements names a UniRef90 and a UniRef50"),
    ],
)
def test_files_that_do_not_belong_together_are_one_line(run, capsys, spoil, message):
    spoil(tidy(run))
    records, curated, output = map(str, run.paths)
    assert main(["cluster", "--records", records, "--curated", curated, "--output", output]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not run.paths[2].exists()


def test_without_members_files_the_idmapping_is_asked_for(run):
    break_members(tidy(run))
    with pytest.raises(UserError, match=r"give UniProt's idmapping_selected\.tab\.gz with --idmapping"):
        cluster(Cluster(), *run.paths)


def test_a_missing_idmapping_is_one_line(run):
    with pytest.raises(UserError, match=r"nowhere\.tab: no such file"):
        cluster(Cluster(), *tidy(run).paths, idmapping=run.directory / "nowhere.tab")


@pytest.mark.parametrize("mapping", [False, True])
def test_counts_and_lineage_say_where_the_membership_comes_from(run, mapping):
    tidy(run)
    path = mapped(run, OWNERS.items())
    cluster(Cluster(), *run.paths, idmapping=path if mapping else None)
    counts = _counts(run)
    assert counts["membership"] == ("idmapping" if mapping else "xml")
    assert counts["sources"] == (["idmapping_selected.tab"] if mapping else ["uniref50.xml", "uniref90.xml"])
    lineage = read_json(run.paths[2] / "lineage.json")
    assert lineage["unknown"] == [str(run.paths[1])]
    assert [(step["stage"], step["counts"]) for step in lineage["steps"]] == [("cluster", counts["levels"])]


def test_blocks_change_no_byte(run, monkeypatch):
    claims = {member: owner for member, owner in OWNERS.items() if member not in ("Q00006", "Q00002")}
    tidy(run, claims=claims, dropped=["P00002"], stated=[3, 9, 4], counts=[2, 2, 2, 2, 2, 1, 5])
    run.members("uniref90", (claims | {"Q00001": "P00003", "Q00005": "P00001", "P00001-2": "Q99999"}).items())
    written = []
    for rows in (1 << 20, 1, 2):
        monkeypatch.setattr("unirefine.cluster.blocks.BLOCK_ROWS", rows)
        cluster(Cluster(), *run.paths)
        written.append({path.name: path.read_bytes() for path in run.paths[2].iterdir()})
    assert {row["reason"] for row in run.read("removed.parquet")} == {
        "cluster_removed", "no_cluster", "no_members", "two_clusters",
    }  # fmt: skip
    assert written[0] == written[1] == written[2]


def test_the_command_says_what_it_did(run, capsys):
    tidy(run, dropped=["P00002"], stated=[4, 9, 4], counts=[2] * 6 + [5])
    records, curated, output = map(str, run.paths)
    argv = ["cluster", "--records", records, "--curated", curated, "--output", output, "--threads", "2"]
    assert main(argv) == 0
    assert capsys.readouterr().out.splitlines() == [
        "violations: none; member counts checked in 3 clusters",
        "uniref50: 2 clusters, 2 kept; removed: nothing",
        "uniref90: 7 members, 5 kept; removed: cluster_removed 2",
    ]
