import gzip
import io
import lzma
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.curate.taxonomy import artificial_taxa
from unirefine.errors import UserError

DEMO = Path(__file__).parents[3] / "resources" / "demo" / "taxonomy.tsv.xz"


def write_taxdump(path: Path, parents: dict[int, int], merged: dict[int, int] | None = None, nodes="nodes.dmp") -> Path:
    files = {
        "merged.dmp": "".join(f"{old}\t|\t{new}\t|\n" for old, new in (merged or {}).items()),
        nodes: "".join(f"{taxon}\t|\t{parent}\t|\tspecies\t|\t\t|\t7\t|\n" for taxon, parent in parents.items()),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


TREE = {1: 1, 28384: 1, 81077: 28384, 32630: 81077, 29278: 81077, 47: 29278, 2: 1, 9606: 2}


def roots(taxa, *numbers):
    return taxa.roots_of(np.array(numbers, np.int32)).tolist()


def test_the_whole_subtree_and_nothing_above_or_beside_it(tmp_path):
    taxa = artificial_taxa([81077], write_taxdump(tmp_path / "taxdump.tar.gz", TREE))
    assert roots(taxa, 81077, 32630, 29278, 47) == [81077] * 4
    assert roots(taxa, 1, 28384, 2, 9606, -1, 5, 10**9) == [0] * 7


def test_the_evidence_names_the_nearest_of_several_roots(tmp_path):
    taxa = artificial_taxa([81077, 29278], write_taxdump(tmp_path / "taxdump.tar.gz", TREE))
    assert roots(taxa, 32630, 29278, 47) == [81077, 29278, 29278]


def test_a_merged_taxon_counts_as_what_it_was_merged_into(tmp_path):
    taxa = artificial_taxa([81077], write_taxdump(tmp_path / "taxdump.tar.gz", TREE, merged={77: 47, 78: 9606}))
    assert roots(taxa, 77, 78) == [81077, 0]
    assert taxa.unknown(np.array([77, 78, 79, -1], np.int32)) == 1


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_the_subtree_agrees_with_walking_up(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    numbers = random.permutation(np.arange(2, 60))
    parents = {1: 1}
    for taxon in numbers.tolist():
        parents[taxon] = int(random.choice(list(parents)))
    chosen = random.choice(numbers, 3, replace=False).tolist()
    path = write_taxdump(tmp_path_factory.mktemp("dump") / "taxdump.tar.gz", parents)

    def nearest(taxon):
        while taxon not in chosen and taxon != 1:
            taxon = parents[taxon]
        return taxon if taxon in chosen else 0

    assert roots(artificial_taxa(chosen, path), *parents) == [nearest(taxon) for taxon in parents]


def test_the_pinned_list_is_the_subtree_in_ncbi_taxonomy():
    parents = {}
    with lzma.open(DEMO, "rt") as lines:
        next(lines)
        for line in lines:
            taxon, parent, _rest = line.split("\t", 2)
            parents[int(taxon)] = int(parent)
    pinned = artificial_taxa([81077], None)
    assert pinned.source == "pinned list"
    taxa = list(parents)
    inside = set()
    for taxon in taxa:
        line = [taxon]
        while line[-1] not in (1, 81077):
            line.append(parents[line[-1]])
        if line[-1] == 81077:
            inside.add(taxon)
    assert len(inside) > 18_000 and {32630, 29278} <= inside
    assert [taxon for taxon, root in zip(taxa, roots(pinned, *taxa), strict=True) if root] == [
        taxon for taxon in taxa if taxon in inside
    ]


def test_without_a_dump_another_root_stands_for_itself_only():
    taxa = artificial_taxa([29278, 4_000_000], None)
    assert roots(taxa, 29278, 4_000_000, 81077, 32630) == [29278, 4_000_000, 0, 0]
    assert taxa.unknown(np.array([123], np.int32)) == 0


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"<html>404</html>"), "not a taxonomy dump"),
        (lambda path: write_taxdump(path, {1: 1}, nodes="names.dmp"), "no nodes.dmp inside"),
        (lambda path: write_taxdump(path, {1: 1}), "nodes.dmp has no taxon 81077"),
        (lambda path: write_taxdump(path, TREE | {81077: 1, 5: 1}, merged={6: 5}), None),
    ],
)
def test_a_dump_that_cannot_serve_is_named(tmp_path, write, message):
    path = tmp_path / "taxdump.tar.gz"
    write(path)
    if message is None:
        with pytest.raises(UserError, match="it was merged into 5"):
            artificial_taxa([6], path)
    else:
        with pytest.raises(UserError, match=message) as error:
            artificial_taxa([81077], path)
        assert str(path) in error.value.line()


def pack(path: Path, files: dict[str, str | None]) -> Path:
    """A taxdump with files, or directories where the text is None."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if text is None else tarfile.REGTYPE
            info.size = len(text or "")
            archive.addfile(info, io.BytesIO((text or "").encode()))
    return path


NODES = "".join(f"{taxon}\t|\t{parent}\t|\tspecies\t|\n" for taxon, parent in TREE.items())


@pytest.mark.parametrize("directory", ["./", "taxdump/", "a/b/"])
def test_the_files_of_a_dump_may_be_in_a_directory_and_have_comments(tmp_path, directory):
    files = {
        directory.rstrip("/"): None,
        f"{directory}nodes.dmp": NODES,
        f"{directory}merged.dmp": "# none\n5\t|\t47\t|\n\n",
    }
    taxa = artificial_taxa([81077], pack(tmp_path / "taxdump.tar.gz", files))
    assert roots(taxa, 32630, 5, 47, 9606) == [81077, 81077, 81077, 0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"nodes.dmp": ""}, "no taxa in nodes.dmp"),
        ({"nodes.dmp": "# nothing\n"}, "no taxa in nodes.dmp"),
        ({"nodes.dmp": None, "readme.txt": "x"}, "no nodes.dmp inside; it has nodes.dmp, readme.txt"),
        ({}, "no nodes.dmp inside; it has nothing"),
        (
            {"nodes.dmp": NODES + "2147483648\t|\t1\t|\t\n"},
            "line 9 of nodes.dmp has a taxon beyond 134,217,727: 2147483648",
        ),
        ({"nodes.dmp": NODES + "9\t|\t" + "9" * 5000 + "\t|\t\n"}, "line 9 of nodes.dmp has a taxon beyond"),
        ({"nodes.dmp": "-7\t|\t1\t|\t\n"}, r"line 1 of nodes.dmp does not begin with two taxa: '-7"),
        ({"nodes.dmp": NODES, "merged.dmp": "5 47\n"}, "line 1 of merged.dmp does not begin with two taxa: '5 47'"),
        ({"nodes.dmp": NODES, "x/nodes.dmp": NODES}, "two files nodes.dmp inside"),
    ],
)
def test_what_is_wrong_inside_a_dump_is_named_by_file_and_line(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        artificial_taxa([81077], pack(tmp_path / "taxdump.tar.gz", files))


def test_a_torn_dump_is_an_error(tmp_path):
    path = write_taxdump(tmp_path / "taxdump.tar.gz", dict.fromkeys(range(1, 20_000), 1))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="not a taxonomy dump"):
        artificial_taxa([81077], path)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header with any size, also below 0."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "x" if kind == tarfile.SYMTYPE else ""
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = b"\xff" + (256**11 + size).to_bytes(11, "big") if size < 0 else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tarred(content: bytes) -> bytes:
    return header("nodes.dmp", len(content)) + content + bytes(-len(content) % 512 + 1024)


ROW = b"81077\t|\t1\t|\tspecies\t|\n"
HOSTILE = {
    "a negative size": header("nodes.dmp", -512) + bytes(1024),
    "a negative size of a long name": header("nodes.dmp", -512, tarfile.GNUTYPE_LONGNAME) + bytes(1024),
    "a size beyond the file": header("nodes.dmp", 1 << 32) + ROW,
    "a link": header("nodes.dmp", 0, tarfile.SYMTYPE) + bytes(1024),
    "a name that leads elsewhere": header("../nodes.dmp", 0) + bytes(1024),
    "a taxon below 0": tarred(ROW + b"-5\t|\t1\t|\n"),
    "a taxon of 5,000 digits": tarred(ROW + b"9" * 5000 + b"\t|\t1\t|\n"),
    "a taxon that asks for gigabytes": tarred(ROW + b"2147483647\t|\t1\t|\n"),
    "a taxon in other digits": tarred(ROW + "٣\t|\t1\t|\n".encode()),
    "one column": tarred(ROW + b"7\n"),
    "a line without end": tarred(b"1" * (1 << 17)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_dump_is_one_line(kind, tmp_path):
    path = tmp_path / "taxdump.tar.gz"
    path.write_bytes(gzip.compress(HOSTILE[kind], 1, mtime=0))
    with pytest.raises(
        UserError, match=r"taxdump\.tar\.gz: (not a taxonomy dump \(|line [12] of nodes\.dmp ).*; (fetch|remove)"
    ) as caught:
        artificial_taxa([81077], path)
    assert len(caught.value.line()) < 400


@pytest.mark.parametrize("shape", ["chain", "circle"])
def test_the_time_does_not_grow_with_the_depth(shape, tmp_path):
    taxa = np.random.default_rng(1).permutation(np.arange(100_000, 140_000)).tolist()
    parents = dict(zip(taxa, [81077 if shape == "chain" else taxa[-1], *taxa], strict=False)) | {81077: 1, 1: 1}
    path = write_taxdump(tmp_path / "taxdump.tar.gz", parents)
    began = time.process_time()
    found = artificial_taxa([81077], path)
    assert time.process_time() - began < 2
    assert roots(found, 81077, taxa[0], taxa[-1], 1) == [81077, *[81077 if shape == "chain" else 0] * 2, 0]
