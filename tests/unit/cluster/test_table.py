"""The clusters of a FASTA of your own, from a table."""

import gzip

import pyarrow.parquet as pq
import pytest

from unirefine.cluster.run import run as cluster
from unirefine.config import Cluster
from unirefine.core.ids import key_of
from unirefine.errors import UserError

IDS = ["a", "b", "sp|P12345|AATM_RABIT", "c", "tr|A0A009IHW8|X_HUMAN", "e"]
TABLE = "a\ta\na\tb\nP12345\tP12345\nP12345\tc\nA0A009IHW8\tA0A009IHW8\ne\te\n"


@pytest.fixture
def grouped(new_run, tmp_path):
    """(table, options of the level) -> members by representative; `.counts`."""

    def group(table, **options):
        run = new_run(prefix=False)
        run.level("uniref90", IDS, **options)
        path = tmp_path / "clusters.tsv"
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
        group.counts = cluster(Cluster(), *run.paths, table=path)
        clusters = pq.read_table(run.paths[2] / "clusters.parquet").to_pylist()
        members = pq.read_table(run.paths[2] / "membership.parquet").to_pylist()
        names = {key_of(name): name for name in IDS}
        found = {names[one["key"]]: set() for one in clusters}
        for member in members:
            found[names[clusters[member["cluster"]]["key"]]].add(names[member["key"]])
        return found

    return group


@pytest.mark.parametrize(
    "made", [str, lambda text: gzip.compress(text.encode()), lambda text: text.replace("\n", "\r\n")]
)
def test_clusters_are_those_of_the_table(grouped, made):
    assert grouped(made(TABLE)) == {
        "a": {"a", "b"}, IDS[2]: {IDS[2], "c"}, IDS[4]: {IDS[4]}, "e": {"e"},
    }  # fmt: skip
    facts = grouped.counts
    assert facts["membership"] == "table" and facts["largest_cluster"] == 2
    assert facts["table"] == {"file": "clusters.tsv", "lines": 6, "not_in_fasta": 0, "other_representative": 0}


def test_the_longest_member_represents_where_the_representative_is_gone(grouped):
    lengths = [9, 5, 7, 8, 3, 4]
    found = grouped(TABLE + "gone\tgone\n", sequences=["M" * n for n in lengths], dropped=["a", IDS[2]])
    assert found == {"b": {"b"}, "c": {"c"}, IDS[4]: {IDS[4]}, "e": {"e"}}
    assert grouped.counts["table"]["other_representative"] == 2 and grouped.counts["table"]["not_in_fasta"] == 1


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (TABLE.replace("e\te\n", ""), "1 sequences of the FASTA are in no cluster: e;"),
        (TABLE + "e\tc\n", "c is a member of two clusters, the second one that of e"),
        (TABLE + "e\n", "not a cluster table: .*Expected 2 columns, got 1"),
        (TABLE + "e\t\n", "row 7 has an empty value"),
        ("", "6 sequences of the FASTA are in no cluster: a, b, sp"),
        (gzip.compress(TABLE.encode(), mtime=0)[:-9], "not a cluster table"),
        (b"\xff\xfe" + TABLE.encode("utf-16-le"), "not a cluster table"),
    ],
)
def test_another_table_is_one_line(grouped, table, says):
    with pytest.raises(UserError, match=says):
        grouped(table)
