import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.config import Curate
from unirefine.core.ids import key_of
from unirefine.curate.run import run as curate
from unirefine.errors import UserError

DESIGN = "MGDIQVQVNIDDNGKNFDYTYTVTTESELQKVLNELMDYIKKQGAKRVRISITARTKKEAEKFAAILIKVFAELGYNDINVTFDGDTVTVEGQLEGGSLEHHHHHH"
NATURAL = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMK"


def record(name, sequence=NATURAL, **columns):
    return {"id": name, "sequence": sequence} | columns


def removals(directory):
    rows = pq.read_table(directory / "removed.parquet").to_pylist()
    return {(row["level"], row["id"]): (row["reason"], row["evidence"]) for row in rows}


def kept_ids(directory, level, records):
    table = pq.read_table(directory / f"{level}.parquet")
    names = [one["id"] for one in records]
    rows = table["row"].to_pylist()
    assert table["key"].to_pylist() == [key_of(names[row]) for row in rows]
    assert table["length"].to_pylist() == [len(records[row]["sequence"]) for row in rows]
    assert rows == sorted(rows)
    return [names[row] for row in rows]


LEVEL50 = [
    record("P00001"),
    record("P00002", taxon_id=32630),
    record("P00003", taxon_id=81077),
    record("P00004", rep_taxon_id=29278),
    record("P10636-7"),
    record("P00005", "MK"),
    record("UPI002E2621C6", taxon_id=None),
]
LEVEL90 = [
    *(record("P10636", taxon_id=32630), record("P00006", "MKJ" * 9 + "**"), record("P00007", "MXXXXX")),
    record("P00008"),
]


def test_every_removal_has_reason_and_evidence_at_both_levels(make_records, tmp_path):
    records = make_records({"uniref50": LEVEL50, "uniref90": LEVEL90})
    (tmp_path / "purge.txt").write_text("P10636\nP99999\n")
    config = Curate(min_length=5, unknown_letters="remove", max_unknown_fraction=0.5)
    output = tmp_path / "curate"
    curate(config, records, ["uniref50", "uniref90"], output, purge_lists=[tmp_path / "purge.txt"])
    assert removals(output) == {
        ("uniref50", "UniRef50_P00002"): ("artificial_taxon", "common taxon 32630 is in the subtree of 81077"),
        ("uniref50", "UniRef50_P00003"): ("artificial_taxon", "common taxon is 81077"),
        ("uniref50", "UniRef50_P00004"): (
            "artificial_taxon",
            "representative's taxon 29278 is in the subtree of 81077",
        ),
        ("uniref50", "UniRef50_P10636-7"): ("purge_list", "P10636 is in purge.txt line 1"),
        ("uniref50", "UniRef50_P00005"): ("too_short", "2 residues; min_length is 5"),
        ("uniref90", "UniRef90_P10636"): ("artificial_taxon", "common taxon 32630 is in the subtree of 81077"),
        ("uniref90", "UniRef90_P00006"): ("unknown_letter", "letters that have no token: 2 x *, 9 x J"),
        ("uniref90", "UniRef90_P00007"): (
            "unknown_fraction",
            "5 of 6 residues unknown; max_unknown_fraction is 0.5",
        ),
    }
    assert kept_ids(output, "uniref50", LEVEL50) == ["P00001", "UPI002E2621C6"]
    assert kept_ids(output, "uniref90", LEVEL90) == ["P00008"]
    assert (output / "purge_not_found.txt").read_text() == "P99999  # purge.txt line 2\n"
    counts = json.loads((output / "counts.json").read_text())
    assert counts["levels"]["uniref50"] == {
        "in": 7,
        "kept": 2,
        "removed": {"artificial_taxon": 3, "purge_list": 1, "too_short": 1},
    }
    assert counts["levels"]["uniref90"]["in"] == 4
    assert counts["taxonomy"]["source"] == "pinned list"
    assert counts["purge_lists"]["ids_found"] == {"uniref50": 1, "uniref90": 1}
    assert counts["letters"]["uniref90"]["J"] == 9


def members(*pairs):
    return [{"taxon_id": taxon, "member_key": key_of(name)} for taxon, name in pairs]


MEMBERS = [
    record("P00001", taxon_id=1, rep_taxon_id=9606, other_taxa=members((32630, "P00002"))),
    record("P00003", taxon_id=1, rep_taxon_id=32630, other_taxa=members((9606, "P00004"))),
    record("P00005", taxon_id=1, other_taxa=members((9606, "P00006"), (32630, "UPI00000000AA"))),
    record("P00007", taxon_id=None, other_taxa=members((29278, "P10636-7"), (32630, "P00008"))),
    record("P00009", taxon_id=1, other_taxa=[]),
    record("P00010", taxon_id=32630, rep_taxon_id=32630, other_taxa=members((81077, "P00011"))),
    record("P00012", taxon_id=1, rep_taxon_id=9606, other_taxa=members((562, "P00013"), (81077, "P10636-600"))),
]
COMMON = {"P00010": "common taxon 32630 is in the subtree of 81077"}
REPRESENTATIVE = COMMON | {"P00003": "representative's taxon 32630 is in the subtree of 81077"}


@pytest.mark.parametrize("level", ["uniref50", "uniref90"])
@pytest.mark.parametrize(
    ("policy", "expected", "stay"),
    [
        ("none", COMMON, None),
        (
            "representative",
            REPRESENTATIVE
            | {"P00007": "all members known to have a taxon: member P10636-7's taxon 29278 is in the subtree of 81077"},
            3,
        ),
        (
            "any",
            REPRESENTATIVE
            | {
                "P00001": "member P00002's taxon 32630 is in the subtree of 81077",
                "P00005": "member UPI00000000AA's taxon 32630 is in the subtree of 81077",
                "P00007": "member P10636-7's taxon 29278 is in the subtree of 81077",
                "P00012": f"member (key {key_of('P10636-600')})'s taxon is 81077",
            },
            0,
        ),
    ],
)
def test_whose_taxa_count_is_a_policy_and_the_evidence_names_the_member(
    make_records, tmp_path, capsys, level, policy, expected, stay
):
    records = make_records({level: MEMBERS})
    argv = ["curate", "--records", str(records), "--levels", level, "--output", str(tmp_path / "out")]
    assert main([*argv, "--set", f"artificial_members={policy}"]) == 0
    prefix = level.replace("unir", "UniR")
    assert removals(tmp_path / "out") == {
        (level, f"{prefix}_{name}"): ("artificial_taxon", evidence) for name, evidence in expected.items()
    }
    taxonomy = json.loads((tmp_path / "out" / "counts.json").read_text())["taxonomy"]
    assert taxonomy.get("kept_with_artificial_members", {}).get(level) == stay
    said = f"{level}: {stay} have an artificial member and stay; curate.artificial_members: any removes them"
    assert (said in capsys.readouterr().out) == bool(stay)


def test_limits_are_inclusive_and_sequences_of_kept_letters_stay(make_records, tmp_path):
    level = [record("P00001", "MKV"), record("P00002", "MKVL"), record("P00003", "MKVLJ"), record("P00004", "MKVLJX")]
    records = make_records({"uniref90": level})
    config = Curate(min_length=4, max_length=5, max_unknown_fraction=0.2)
    curate(config, records, ["uniref90"], tmp_path / "out")
    assert kept_ids(tmp_path / "out", "uniref90", level) == ["P00002", "P00003"]


def test_the_cut_into_parts_changes_no_byte(make_records, tmp_path, monkeypatch):
    level = [record(f"P{number:05d}", "MK" * (number % 50 + 1)) for number in range(500)]
    config = Curate(min_length=20, max_length=80, max_unknown_fraction=0.9)
    written = []
    for parts, batch_rows in ((1, 1 << 14), (7, 13)):
        monkeypatch.setattr("unirefine.curate.run._SEQUENCE_BATCH_ROWS", batch_rows)
        folder = tmp_path / str(parts)
        folder.mkdir()
        records = make_records({"uniref50": level}, parts=parts)
        records.rename(folder / "records")
        curate(config, folder / "records", ["uniref50"], folder / "out")
        written.append({path.name: path.read_bytes() for path in (folder / "out").iterdir()})
        lineage = json.loads(written[-1].pop("lineage.json"))
        assert lineage["steps"][-1]["counts"] == json.loads(written[-1]["counts.json"])["levels"]
    assert written[0] == written[1]
    assert set(written[0]) == {"uniref50.parquet", "removed.parquet", "counts.json", "purge_not_found.txt"}


def test_jackhmmer_finds_a_mutated_design_and_reports_its_evalue(make_records, tmp_path):
    random = np.random.default_rng(5)
    letters = np.array(list(DESIGN))
    letters[random.choice(len(letters), 25, replace=False)] = list(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), 25))
    noise = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), 120)) for _ in range(20)]
    level = [record("P00001"), record("P00002", "".join(letters)), record("P00003", "MK*JXB")]
    level += [record(f"Q{number:05d}", sequence) for number, sequence in enumerate(noise, 10000)]
    (tmp_path / "designs.fasta").write_text(f">6MRS a design\n{DESIGN}\n>again\n{DESIGN[:90]}\n")
    records = make_records({"uniref50": level})
    config = Curate(designs=str(tmp_path / "designs.fasta"))
    texts = set()
    for threads in (1, 2):
        curate(config, records, ["uniref50"], tmp_path / "out", threads=threads)
        found = removals(tmp_path / "out")
        assert set(found) == {("uniref50", "UniRef50_P00002")}
        texts.add(found["uniref50", "UniRef50_P00002"])
    (only,) = texts
    assert only[0] == "de_novo_design"
    assert only[1].startswith("jackhmmer hit of 6MRS, E-value ") and only[1].endswith("and of 1 more design")


def test_evalues_do_not_depend_on_the_blocks_of_the_search(make_records, tmp_path, monkeypatch):
    level = [record(f"P{number:05d}", DESIGN[number:]) for number in range(30)] + [record("P99999")]
    (tmp_path / "designs.fasta").write_text(f">6MRS\n{DESIGN}\n")
    records = make_records({"uniref50": level}, parts=1)
    found = []
    for rows in (1000, 7):
        monkeypatch.setattr("unirefine.curate.run._SEQUENCE_BATCH_ROWS", rows)
        curate(Curate(designs=str(tmp_path / "designs.fasta")), records, ["uniref50"], tmp_path / "out")
        found.append(removals(tmp_path / "out"))
    assert found[0] == found[1] and len(found[0]) == 30


def test_records_that_do_not_match_their_counts_are_refused(make_records, tmp_path):
    records = make_records({"uniref50": LEVEL50})
    path = records / "uniref50" / "counts.json"
    path.write_text(path.read_text().replace('"kept": 7', '"kept": 8'))
    with pytest.raises(UserError, match="8 uniref50 records, but their parts have 7"):
        curate(Curate(), records, ["uniref50"], tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"artificial_taxa": (81077, 562, 9606)}, "no record has a taxon at or below 562 of curate.artificial_taxa"),
        ({}, "purge.txt: none of its 1 ids is a record here: Q67890; give ids of representatives"),
    ],
)
def test_a_request_that_selects_nothing_is_an_error_and_leaves_nothing(make_records, tmp_path, options, message):
    records = make_records({"uniref50": LEVEL50, "uniref90": LEVEL90})
    (tmp_path / "purge.txt").write_text("Q67890\n")
    lists = [tmp_path / "purge.txt"] if not options else []
    with pytest.raises(UserError, match=message):
        curate(Curate(**options), records, ["uniref50", "uniref90"], tmp_path / "out", purge_lists=lists)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_selects_nothing_can_be_allowed(make_records, tmp_path, capsys):
    records = make_records({"uniref90": LEVEL90})
    (tmp_path / "purge.txt").write_text("Q67890\n")
    argv = ["curate", "--records", str(records), "--levels", "uniref90", "--output", str(tmp_path / "out")]
    argv += ["--purge-list", str(tmp_path / "purge.txt"), "--set", "artificial_taxa=[562]"]
    assert main([*argv, "--set", "allow_unmatched=true"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "your own FASTA: 4 sequences, 4 kept; removed: nothing"
    assert out[1:3] == ["purge.txt: 0 of 1 ids found; not found: Q67890", "no record has a taxon at or below 562"]
    assert (tmp_path / "out" / "purge_not_found.txt").read_text() == "Q67890  # purge.txt line 1\n"


def test_the_command_says_what_it_did(make_records, tmp_path, capsys):
    records = make_records({"uniref50": LEVEL50, "uniref90": LEVEL90})
    (tmp_path / "purge.txt").write_text("P10636\n")
    argv = ["curate", "--records", str(records), "--levels", "uniref50", "uniref90", "--output", str(tmp_path / "out")]
    assert main([*argv, "--purge-list", str(tmp_path / "purge.txt"), "--set", "min_length=3"]) == 0
    out = capsys.readouterr().out
    assert "uniref50: 7 records, 2 kept; removed: artificial_taxon 3, purge_list 1, too_short 1" in out
    assert "purge.txt: 1 of 1 ids found\n" in out
    assert "from the pinned list" in out


def test_a_missing_part_is_one_line_and_leaves_nothing(make_records, tmp_path, capsys):
    records = make_records({"uniref50": LEVEL50})
    (records / "uniref50" / "records-001-of-002.parquet").unlink()
    argv = ["curate", "--records", str(records), "--levels", "uniref50", "--output", str(tmp_path / "out")]
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("unirefine curate: error: ")
    assert not (tmp_path / "out").exists()


def test_a_level_that_is_no_longer_curated_goes(make_records, tmp_path):
    levels = ("uniref50", "uniref90")
    records, output = make_records({level: [record("P12345")] for level in levels}), tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").touch()
    for chosen in (levels, levels[1:]):
        argv = ["curate", "--records", str(records), "--levels", *chosen, "--output", str(output)]
        assert main(argv) == 0
    left = {
        "uniref90.parquet",
        "removed.parquet",
        "purge_not_found.txt",
        "counts.json",
        "lineage.json",
        "notes.txt",
        ".lock",
    }
    assert {path.name for path in output.iterdir()} == left
