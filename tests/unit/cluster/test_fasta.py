"""A FASTA of your own: MMseqs2 really runs."""

import json
import stat

import numpy as np
import pyarrow.parquet as pq
import pytest

from unirefine.cli.main import main
from unirefine.cluster.run import run as cluster
from unirefine.config import Cluster
from unirefine.core.ids import key_of
from unirefine.errors import UserError
from unirefine.tools import find_mmseqs

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def mutate(random, sequence, fraction):
    letters = np.array(list(sequence))
    places = random.choice(len(letters), round(fraction * len(letters)), replace=False)
    letters[places] = random.choice(LETTERS, len(places))
    return "".join(letters)


LINCLUST = Cluster(algorithm="linclust")


@pytest.fixture
def families(new_run):
    return make_families(new_run)


@pytest.fixture(scope="module")
def clustered(new_run):
    """The families after the sensitive `mmseqs cluster`, which takes seconds for any input."""
    run = make_families(new_run)
    cluster(Cluster(), *run.paths, threads=2)
    return run


def make_families(new_run):
    """6 families of 3 subfamilies (about 70% identical) of 4 near copies (97%), lab ids, one dropped by curate."""
    random = np.random.default_rng(11)
    names, sequences, family = [], [], []
    for number in range(6):
        ancestor = "".join(random.choice(LETTERS, 200 + 10 * number))
        for sub in range(3):
            parent = mutate(random, ancestor, 0.18)
            for copy in range(4):
                names.append(f"lab|{number}.{sub}.{copy}")
                sequences.append(mutate(random, parent, 0.02))
                family.append((number, sub))
    order = random.permutation(len(names))
    run = new_run(parts=3, prefix=False)
    names = [names[place] for place in order]
    run.level("uniref90", names, sequences=[sequences[place] for place in order], dropped=["lab|0.0.0"])
    run.names, run.family = names, [family[place] for place in order]
    return run


@pytest.mark.parametrize("algorithm", ["cluster", "linclust"])
def test_families_become_clusters_and_near_copies_go(request, algorithm):
    run = request.getfixturevalue("clustered" if algorithm == "cluster" else "families")
    if algorithm == "linclust":
        cluster(LINCLUST, *run.paths, threads=2)
    counts = json.loads((run.paths[2] / "counts.json").read_text())["levels"]
    clusters, membership = run.read("clusters.parquet"), run.read("membership.parquet")
    metadata = pq.ParquetFile(run.paths[2] / "clusters.parquet").metadata.metadata
    assert metadata[b"representative_level"] == b"uniref90"
    assert counts == {
        "uniref50": {"in": len(clusters), "kept": len(clusters), "removed": {}},
        "uniref90": {"in": 71, "kept": 18, "removed": {"in_90_percent_cluster": 53}},
    }
    families_of = {}
    for row in membership:
        assert row["key"] == key_of(run.names[row["row"]])
        families_of.setdefault(row["cluster"], []).append(run.family[row["row"]])
    assert all(len({family for family, _sub in found}) == 1 for found in families_of.values())
    assert sorted(sub for found in families_of.values() for sub in found) == sorted(set(run.family))
    if algorithm == "cluster":
        assert [row["size"] for row in clusters] == [3] * 6
    for index, row in enumerate(clusters):
        assert row["key"] == key_of(run.names[row["row"]])
        assert row["row"] in [one["row"] for one in membership if one["cluster"] == index]
    keys = [row["key"] for row in clusters]
    assert keys == sorted(keys)


def test_proteins_too_long_for_mmseqs2_are_joined_apart(new_run):
    """Two of some 9,600 residues, 97% and 87% identical to a third; gaps hide that from MMseqs2's ungapped steps."""
    random = np.random.default_rng(4)
    first = "".join(random.choice(LETTERS, 9800))
    copy, relative = (
        mutated[:3000] + mutated[3040:6000] + mutated[6050:8000] + mutated[8060:]
        for mutated in (mutate(random, first, 0.03), mutate(random, first, 0.14)[20:])
    )
    run = new_run(prefix=False)
    run.level("uniref90", ["relative", "copy", "first", "alone"],
              sequences=[relative, copy, first, "".join(random.choice(LETTERS, 300))])  # fmt: skip
    counts = cluster(LINCLUST, *run.paths)
    assert counts["giants"] == [
        {"giants": 3, "pairs": 2, "joined": 1},
        {"giants": 2, "pairs": 1, "joined": 1},
    ]
    (removed,) = run.read("removed.parquet")
    assert (removed["id"], removed["reason"], removed["evidence"]) == ("copy", "in_90_percent_cluster", "first")
    rows = {name: row for row, name in enumerate(("relative", "copy", "first", "alone"))}
    assert {row["row"]: row["size"] for row in run.read("clusters.parquet")} == {rows["first"]: 2, rows["alone"]: 1}


def test_a_removed_copy_names_its_representative(clustered):
    kept = {clustered.names[row["row"]] for row in clustered.read("membership.parquet")}
    removed = clustered.read("removed.parquet")
    for row in removed:
        assert row["level"] == "uniref90" and row["id"] not in kept and row["evidence"] in kept
        assert row["id"].rpartition(".")[0] == row["evidence"].rpartition(".")[0]
    assert "lab|0.0.0" not in kept | {row["id"] for row in removed}


TABLES = {"clusters.parquet", "membership.parquet", "removed.parquet", "counts.json", "violations.parquet"}
FILES = TABLES | {"lineage.json"}


def test_no_temporary_file_stays(clustered):
    assert {path.name for path in clustered.paths[2].iterdir()} == FILES | {"mmseqs.log"}
    assert clustered.read("violations.parquet") == []


@pytest.mark.parametrize("algorithm", [pytest.param("cluster", marks=pytest.mark.slow), "linclust"])
def test_threads_change_no_byte(clustered, families, new_run, algorithm):
    if algorithm == "linclust":
        clustered = make_families(new_run)
        cluster(LINCLUST, *clustered.paths, threads=2)
    cluster(Cluster(algorithm=algorithm), *families.paths, threads=1)
    for name in TABLES:
        assert (families.paths[2] / name).read_bytes() == (clustered.paths[2] / name).read_bytes()


def test_identities_and_coverage_reach_mmseqs(families):
    config = Cluster(identities=(0.99, 0.6), coverage=0.7, algorithm="linclust")
    cluster(config, *families.paths)
    log = (families.paths[2] / "mmseqs.log").read_text()
    assert "--min-seq-id 0.99 -c 0.7" in log and "--min-seq-id 0.6 -c 0.7" in log
    counts = json.loads((families.paths[2] / "counts.json").read_text())
    assert set(counts["levels"]["uniref90"]["removed"]) <= {"in_99_percent_cluster"}
    assert counts["mmseqs"]["identities"] == [0.99, 0.6]


def command(run, *more):
    records, curated, output = map(str, run.paths)
    argv = ["cluster", "--records", records, "--curated", curated, "--output", output]
    return main([*argv, *more])


def test_a_missing_binary_is_one_line(families, capsys):
    assert command(families, "--mmseqs", "/no/such/mmseqs") == 1
    assert "tools.mmseqs is '/no/such/mmseqs', which is no program" in capsys.readouterr().err.splitlines()[-1]


def test_a_failing_step_is_one_line_and_leaves_only_its_log(families, tmp_path, capsys):
    fake = tmp_path / "mmseqs"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = cluster ] && {{ echo "no space left" >&2; exit 7; }}\nexec {find_mmseqs()} "$@"\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    assert command(families, "--mmseqs", str(fake)) == 1
    assert "mmseqs cluster failed with exit code 7: no space left" in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in families.paths[2].iterdir()} == {"mmseqs.log", ".lock"}


def test_what_a_killed_run_left_is_deleted(families):
    scratch = families.paths[2] / f".mmseqs.{'0' * 12}.tmp"
    scratch.mkdir(parents=True)
    (scratch / "sequences").write_text("half")
    cluster(LINCLUST, *families.paths)
    assert {path.name for path in families.paths[2].iterdir()} == FILES | {"mmseqs.log"}


def test_a_sequence_that_mmseqs_leaves_out_is_an_error(families, tmp_path):
    fake = tmp_path / "mmseqs"
    fake.write_text(f'#!/bin/sh\n{find_mmseqs()} "$@" || exit 1\n[ "$1" = createtsv ] && sed -i 1d "$5"\nexit 0\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(UserError, match=r"MMseqs2 put 1 sequences into no cluster, such as lab"):
        cluster(LINCLUST, *families.paths, mmseqs=str(fake))


def test_curate_says_that_it_is_your_own_fasta(families, new_run):
    """Records of UniRef that an earlier config left in the directory are not read."""
    for level in ("records-000-of-001", "members-000-of-001"):
        path = families.paths[0] / "uniref50" / f"{level}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_text("of another run")
    counts = cluster(LINCLUST, *families.paths)
    assert counts["membership"] == "mmseqs"


def test_the_lineage_names_the_version_of_mmseqs(clustered):
    step = json.loads((clustered.paths[2] / "lineage.json").read_text())["steps"][-1]
    counts = json.loads((clustered.paths[2] / "counts.json").read_text())
    assert step["tools"] == {"mmseqs": counts["mmseqs"]["version"]}
    assert step["counts"] == counts["levels"]


def test_nothing_kept_is_an_error(new_run):
    run = new_run(prefix=False)
    run.level("uniref90", ["lab|1"], dropped=["lab|1"])
    with pytest.raises(UserError, match="curate kept no sequence"):
        cluster(Cluster(), *run.paths)


def test_sides_that_are_given_are_clustered_apart(new_run):
    random = np.random.default_rng(3)
    ancestor = "".join(random.choice(LETTERS, 150))
    sequences = [mutate(random, ancestor, 0.02) for _copy in range(6)]
    run = new_run(prefix=False)
    run.level("uniref90", [f"p{number}" for number in range(6)], sequences=sequences, sides=[0, 0, 0, 1, 1, 2])
    counts = cluster(LINCLUST, *run.paths, threads=1)
    assert counts["levels"]["uniref50"]["kept"] == 3 and counts["levels"]["uniref90"]["kept"] == 3
