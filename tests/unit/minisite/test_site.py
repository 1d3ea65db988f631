"""The miniature site read back with other tools: lxml, Biopython, tarfile, gzip."""

import gzip
import hashlib
import io
import re
import tarfile
from collections import Counter

import pytest
from Bio import SeqIO
from Bio.SeqUtils.CheckSum import crc64
from lxml import etree
from minisite.__main__ import main
from minisite.derived import derive
from minisite.proteins import LEVELS, choose, form_clusters, read_proteins, read_table
from minisite.site import DEMO, build, build_demo
from minisite.taxonomy import Taxonomy

from unirefine.errors import UserError

NAMESPACE = "{http://uniprot.org/uniref}"
CLUSTERS = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    output = tmp_path_factory.mktemp("minisite") / "site"
    assert build_demo(output, limit=CLUSTERS)["uniref50"] == CLUSTERS
    return output


@pytest.fixture(scope="module")
def taxonomy():
    return Taxonomy(read_table(DEMO / "taxonomy.tsv.xz", 4))


@pytest.fixture(scope="module")
def proteins():
    return read_proteins(sorted(DEMO.glob("*.fasta.xz")), DEMO / "clusters.tsv.xz", DEMO / "organisms.tsv.xz")


def level_directory(site, level):
    return site / "current_release" / "uniref" / level


def entries(site, level):
    return etree.fromstring(gzip.decompress((level_directory(site, level) / f"{level}.xml.gz").read_bytes()))


def properties(element):
    return {p.get("type"): p.get("value") for p in element.iterfind(f"{NAMESPACE}property")}


def test_layout(site):
    found = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert found >= {
        "current_release/uniref/uniref50/uniref50.fasta.gz", "current_release/uniref/uniref50/uniref50.xml.gz",
        "current_release/uniref/uniref50/uniref50.release_note", "current_release/uniref/uniref50/RELEASE.metalink",
        "current_release/uniref/uniref90/uniref90.xml.gz",
        "current_release/knowledgebase/idmapping/idmapping_selected.tab.gz",
        "current_release/knowledgebase/idmapping/RELEASE.metalink",
        "previous_releases/release-2024_03/uniref/uniref2024_03.tar.gz",
        "previous_releases/release-2024_03/uniref/RELEASE.metalink",
        "taxonomy/taxdump.tar.gz", "taxonomy/taxdump.tar.gz.md5",
    }  # fmt: skip


def test_same_bytes_every_time(site, tmp_path):
    build_demo(tmp_path / "again", limit=CLUSTERS)
    for path in site.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(site)).read_bytes(), path


@pytest.mark.parametrize("level", ["uniref50", "uniref90"])
def test_xml_and_fasta_say_the_same(level, site):
    root, label = entries(site, level), level.replace("unir", "UniR")
    assert root.tag == f"{NAMESPACE}{label}"
    assert root.attrib["version"] == "2026_03" and root.attrib["releaseDate"] == "2026-09-02"
    fasta = gzip.decompress((level_directory(site, level) / f"{level}.fasta.gz").read_bytes()).decode()
    records = list(SeqIO.parse(io.StringIO(fasta), "fasta"))
    assert len(records) == len(root)
    lengths = [len(record) for record in records]
    assert lengths == sorted(lengths, reverse=True)
    for record, entry in zip(records, root, strict=True):
        values = properties(entry)
        best = entry.find(f"{NAMESPACE}representativeMember")
        reference, sequence = best.find(f"{NAMESPACE}dbReference"), best.find(f"{NAMESPACE}sequence")
        members = [reference, *entry.iterfind(f"{NAMESPACE}member/{NAMESPACE}dbReference")]
        assert record.id == entry.get("id") == f"{label}_{properties(reference)['UniProtKB accession']}"
        assert sequence.text == str(record.seq)
        assert int(sequence.get("length")) == len(record)
        assert f"CRC-{sequence.get('checksum')}" == crc64(sequence.text)
        assert int(values["member count"]) == len(members)
        name = entry.findtext(f"{NAMESPACE}name").removeprefix("Cluster: ")
        taxon = f"Tax={values['common taxon']}"
        if "common taxon ID" in values:
            taxon += f" TaxID={values['common taxon ID']}"
        assert record.description == f"{record.id} {name} n={len(members)} {taxon} RepID={reference.get('id')}"
        assert sum(properties(member).get("isSeed") == "true" for member in members) == 1
        seed = next(member for member in members if "isSeed" in properties(member))
        assert int(properties(seed)["length"]) == max(int(properties(member)["length"]) for member in members)


def test_levels_agree_with_each_other_and_with_idmapping(site):
    of_member = {}
    for level, other in (("uniref50", "UniRef90 ID"), ("uniref90", "UniRef50 ID")):
        for entry in entries(site, level):
            for reference in entry.iter(f"{NAMESPACE}dbReference"):
                values = properties(reference)
                name = values.get("UniProtKB accession", reference.get("id"))
                of_member.setdefault(name, {})[level] = (entry.get("id"), values[other])
    for levels in of_member.values():
        assert levels["uniref50"] == levels["uniref90"][::-1]
    table = gzip.decompress(
        (site / "current_release/knowledgebase/idmapping/idmapping_selected.tab.gz").read_bytes()
    ).decode()
    rows = [line.split("\t") for line in table.splitlines()]
    assert {len(row) for row in rows} == {22}
    assert [row[0] for row in rows] == sorted(name for name in of_member if not re.search("^UPI|-2$", name))
    assert all((row[9], row[8]) == of_member[row[0]]["uniref50"] for row in rows)


@pytest.mark.parametrize("level", ["uniref50", "uniref90"])
def test_members_of_all_kinds(level, site):
    """UniParc-only members and isoforms are shorter than the entry that they come from, and represent nothing."""
    kinds, lengths, terms = Counter(), {}, Counter()
    for entry in entries(site, level):
        terms.update(kind for kind in properties(entry) if kind.startswith("GO "))
        for position, reference in enumerate(entry.iter(f"{NAMESPACE}dbReference")):
            values = properties(reference)
            kind, name = reference.get("type"), values.get("UniProtKB accession")
            assert ("UniProtKB accession" in values, "UniParc ID" in values) == (kind == "UniProtKB ID",) * 2
            assert re.fullmatch("UPI[0-9A-F]{10}", values.get("UniParc ID", reference.get("id")))
            derived = name is None or name.endswith("-2")
            kinds[kind, derived] += 1
            assert position > 0 or not derived
            if name is not None:
                lengths[name] = int(values["length"])
    assert set(kinds) == {("UniProtKB ID", False), ("UniProtKB ID", True), ("UniParc ID", True)}, kinds
    isoforms = [name for name in lengths if name.endswith("-2")]
    assert all(0.9 * lengths[name[:-2]] <= lengths[name] < lengths[name[:-2]] for name in isoforms)
    assert sum(terms.values()) > 0


def test_derived_members_are_few_and_in_the_clusters_of_their_entry(proteins):
    made = derive(proteins)
    parents = {p.accession: p for p in proteins} | {p.sequence: p for p in proteins}
    taxa = {(p.sequence, p.tax_id) for p in proteins}  # some entries have one sequence
    uniparc = [p for p in made if p.accession.startswith("UPI")]
    isoforms = [p for p in made if p.accession.endswith("-2")]
    assert len(uniparc) + len(isoforms) == len(made) == len({p.accession for p in made})
    assert 400 < len(uniparc) < 900 and 50 < len(isoforms) < 300
    for one in made:
        parent = parents[f"M{one.sequence}"] if one in uniparc else parents[one.accession[:-2]]
        assert parent.sequence.endswith(one.sequence)
        assert all(getattr(one, level) == getattr(parent, level) for level in LEVELS)
        assert (parent.sequence, one.tax_id) in taxa and one.sequence not in parents


def test_release_note_and_metalink(site):
    directory = level_directory(site, "uniref50")
    assert f"Number of clusters: {CLUSTERS}\n" in (directory / "uniref50.release_note").read_text()
    root = etree.fromstring((directory / "RELEASE.metalink").read_bytes())
    spaces = {"m": "http://www.metalinker.org/"}
    assert root.findtext("m:version", namespaces=spaces) == "2026_03"
    listed = root.findall("m:files/m:file", spaces)
    assert {entry.get("name") for entry in listed} == {path.name for path in directory.iterdir()} - {"RELEASE.metalink"}
    for entry in listed:
        data = (directory / entry.get("name")).read_bytes()
        assert int(entry.findtext("m:size", namespaces=spaces)) == len(data)
        assert entry.findtext("m:verification/m:hash", namespaces=spaces) == hashlib.md5(data).hexdigest()
        assert {url.text.split("/")[2] for url in entry.iterfind("m:resources/m:url", spaces)} == {
            "ftp.uniprot.org", "ftp.ebi.ac.uk", "ftp.expasy.org",
        }  # fmt: skip


def test_archive_is_tars_in_a_tarball(site):
    tarball = site / "previous_releases/release-2024_03/uniref/uniref2024_03.tar.gz"
    with tarfile.open(tarball) as outer:
        assert outer.getnames() == ["uniref100.tar", "uniref90.tar", "uniref50.tar"]
        with tarfile.open(fileobj=outer.extractfile("uniref50.tar")) as inner:
            assert inner.getnames() == ["README", "uniref50.release_note", "uniref50.xml.gz"]
            root = etree.fromstring(gzip.decompress(inner.extractfile("uniref50.xml.gz").read()))
    assert root.get("version") == "2024_03" and root.get("releaseDate") == "2024-05-29"
    assert len(root) == CLUSTERS


def test_taxdump_holds_the_artificial_subtree(site, taxonomy):
    with tarfile.open(site / "taxonomy/taxdump.tar.gz") as dump:
        nodes = dump.extractfile("nodes.dmp").read().decode()
        names = dump.extractfile("names.dmp").read().decode()
    rows = [line.removesuffix("\t|").split("\t|\t") for line in nodes.splitlines()]
    assert {len(row) for row in rows} == {13}
    parents = {int(row[0]): int(row[1]) for row in rows}
    assert parents == taxonomy.parents
    assert parents[1] == 1 and parents[81077] == 28384 and parents[32630] == 81077
    assert "32630\t|\tsynthetic construct\t|\t\t|\tscientific name\t|\n" in names
    md5 = hashlib.md5((site / "taxonomy/taxdump.tar.gz").read_bytes()).hexdigest()
    assert (site / "taxonomy/taxdump.tar.gz.md5").read_text() == f"{md5}  taxdump.tar.gz\n"


def test_demo_holds_what_must_be_removed(proteins, taxonomy):
    few = choose(proteins, taxonomy, CLUSTERS)
    clusters = {level: form_clusters(few, level, taxonomy) for level in LEVELS}
    artificial = [c for c in clusters["uniref50"] if c.common_taxon_id == 32630]
    assert [c.representative.accession for c in artificial] == ["B6IDC0"]
    purge = set((DEMO / "purge.txt").read_text().split())
    named = {level: {c.representative.accession for c in of} & purge for level, of in clusters.items()}
    assert named["uniref50"] == {"H7F2K1", "B2NEP5"} and named["uniref90"] == {"H7F2K1", "B2NEP5", "A0A073KXL7"}


def test_whole_demo(proteins):
    letters = Counter()
    for protein in proteins:
        letters.update(protein.sequence)
    assert len(proteins) == len({p.accession for p in proteins}) == 20_000
    assert letters.total() == 9_055_569
    assert {letter: letters[letter] for letter in "XBZUOJ"} == {"X": 3088, "B": 2, "Z": 2, "U": 0, "O": 0, "J": 0}
    assert len({p.uniref90 for p in proteins}) == 14_866 and len({p.uniref50 for p in proteins}) == 8_216
    assert all(len({p.uniref50 for p in proteins if p.uniref90 == name}) == 1 for name in ("B2NEP5", "A0A073KXL7"))
    assert any(">" in p.name for p in proteins)
    assert sum(len(p.sequence) > 4000 for p in proteins) == 35


def test_each_uniref90_is_in_one_uniref50(proteins):
    pairs = {(p.uniref90, p.uniref50) for p in proteins}
    assert len(pairs) == len({uniref90 for uniref90, _ in pairs})


def test_common_ancestor(taxonomy):
    human, chimpanzee, mouse, coli = 9606, 9598, 10090, 562
    assert taxonomy.names[taxonomy.common_ancestor([human, chimpanzee])] == "Homininae"
    assert taxonomy.names[taxonomy.common_ancestor([human, mouse])] == "Euarchontoglires"
    assert taxonomy.names[taxonomy.common_ancestor([human, coli])] == "cellular organisms"
    assert taxonomy.common_ancestor([human]) == human
    assert taxonomy.lineage(human)[-1] == 1


def test_escapes_and_odd_names(tmp_path):
    (tmp_path / "in.fasta").write_text(
        '>sp|P41238|ABEC1_HUMAN C->U-editing "A&B" enzyme OS=x OS=Homo sapiens GN=APOBEC1 PE=1 SV=3\nMKV\n'
        ">tr|A0A024B7W1|A0A024B7W1_ZIKV Un'known OS=Nowhere\u00eb virus PE=4 SV=1\nMKVL\nAA\n",
        encoding="utf-8",
    )
    (tmp_path / "clusters.tsv").write_text(
        "accession\tuniref90\tuniref50\nP41238\tP41238\tP41238\nA0A024B7W1\tA0A024B7W1\tP41238\n"
    )
    (tmp_path / "organisms.tsv").write_text("organism\ttax_id\tancestor\nHomo sapiens\t9606\t9606\n")
    build(
        [tmp_path / "in.fasta"], tmp_path / "clusters.tsv", tmp_path / "site", taxonomy=DEMO / "taxonomy.tsv.xz",
        organisms=tmp_path / "organisms.tsv", release="2026_05", archive="2024_03", limit=None,
    )  # fmt: skip
    (entry,) = entries(tmp_path / "site", "uniref50")
    assert entry.findtext(f"{NAMESPACE}name") == 'Cluster: C->U-editing "A&B" enzyme OS=x'
    assert properties(entry) == {"member count": "2", "common taxon": "Homo sapiens"}
    virus = properties(entry.find(f"{NAMESPACE}member/{NAMESPACE}dbReference"))
    assert virus["source organism"] == "Nowhereë virus" and "NCBI taxonomy" not in virus
    assert virus["isSeed"] == "true"


@pytest.mark.parametrize(
    ("header", "message"),
    [(">P12345 no database", "not a UniProtKB header"), (">sp|P12345|X_Y Name OS=Z PE=1 SV=1", "P12345 is not in")],
)
def test_unusable_input(header, message, tmp_path):
    (tmp_path / "in.fasta").write_text(f"{header}\nMKV\n")
    (tmp_path / "clusters.tsv").write_text("accession\tuniref90\tuniref50\n")
    with pytest.raises(UserError, match=message):
        build(
            [tmp_path / "in.fasta"], tmp_path / "clusters.tsv", tmp_path / "site", taxonomy=DEMO / "taxonomy.tsv.xz",
            organisms=DEMO / "organisms.tsv.xz", release="2026_03", archive="2024_03", limit=None,
        )  # fmt: skip
    assert not (tmp_path / "site").exists()


def test_never_replaces_another_directory(tmp_path):
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(UserError, match="is not empty and not a miniature site"):
        build_demo(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "irreplaceable"


def test_release_names(tmp_path):
    with pytest.raises(UserError, match="'next' is not a release name"):
        build_demo(tmp_path / "site", release="next")
    assert list(tmp_path.iterdir()) == []


def test_the_command_builds_the_demo(tmp_path, capsys):
    assert main(["--limit-clusters", "5", "--output", str(tmp_path / "site")]) == 0
    assert "5 uniref50" in capsys.readouterr().out
    assert (tmp_path / "site/taxonomy/taxdump.tar.gz").exists()


def test_a_mistake_is_one_line(tmp_path, capsys):
    assert main(["--release", "next", "--output", str(tmp_path / "site")]) == 1
    assert capsys.readouterr().err == "minisite: error: 'next' is not a release name; write it as 2024_03\n"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"taxonomy.tsv.xz: no such file"):
        build(
            [tmp_path / "x"], tmp_path / "y", tmp_path / "site", taxonomy=tmp_path / "taxonomy.tsv.xz",
            organisms=tmp_path / "z", release="2026_03", archive="2024_03", limit=None,
        )  # fmt: skip
