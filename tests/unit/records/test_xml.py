"""UniRef XML: against lxml, and what is not the XML of a release."""

import random
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from unirefine.core.crc64 import crc64_hex
from unirefine.core.ids import key_of
from unirefine.errors import UserError
from unirefine.records.columns import EMPTY, OK
from unirefine.records.duplicates import locate_in_xml
from unirefine.records.stream import Block
from unirefine.records.uniref_xml import parse
from unirefine.records.xml_document import read_head

NAMESPACE = "{http://uniprot.org/uniref}"
TEXT = "ab &<>\"'é;#/=_-1"


def parsed(data: bytes, level: str = "50", *, verify: bool = True):
    name, other = f"UniRef{level}", "UniRef90" if level == "50" else "UniRef50"
    start, _release = read_head(data, name, "file")
    buffer = bytearray(data)
    block = Block(np.frombuffer(buffer, np.uint8), buffer, 0, True, 0)
    return parse(block, start, name, other, verify=verify, path="file")


class Writer:
    """Writes the same XML in ever different ways: attribute order, quotes, references, white space, comments."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, text: str) -> str:
        quote = self.random.choice("\"'")
        named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
        out = ""
        for letter in text:
            kind = self.random.random()
            if letter in "&<" or letter == quote or kind < 0.2:
                code = self.random.choice([f"&#{ord(letter)};", f"&#x{ord(letter):x};", f"&#x{ord(letter):04X};"])
                out += named[letter] if letter in named and kind < 0.7 else code
            else:
                out += letter
        return f"{quote}{out}{quote}"

    def space(self, required: bool = False) -> str:
        return self.random.choice([" ", "\n", "\t ", "\r\n"] + ([] if required else ["", "", ""]))

    def between(self) -> str:
        return self.space() + (
            self.random.choice(["<!-- <entry id='x'> & -->", "<!---->"]) if self.random.random() < 0.1 else ""
        )

    def tag(self, name: str, inner: str | None = None, **attributes: object) -> str:
        items = list(attributes.items())
        self.random.shuffle(items)
        text = f"<{name}" + "".join(
            f"{self.space(True)}{key}{self.space()}={self.space()}{self.value(str(value))}" for key, value in items
        )
        if inner is None and self.random.random() < 0.7:
            return text + self.space() + "/>" + self.between()
        return f"{text}{self.space()}>{inner or ''}</{name}{self.space()}>{self.between()}"

    def properties(self, pairs: list[tuple[str, object]]) -> str:
        self.random.shuffle(pairs)
        return "".join(self.tag("property", type=key, value=value) for key, value in pairs)


accessions = st.from_regex(r"[OPQ][0-9][A-Z0-9]{3}[0-9](-[1-9])?|UPI00[0-9A-F]{8}", fullmatch=True)
member = st.fixed_dictionaries(
    {
        "accession": accessions,
        "other": st.none() | accessions,
        "taxon": st.none() | st.integers(1, 4) | st.integers(1, 2**31 - 1),
        "name": st.text(TEXT, max_size=12),
    }
)
entry_of = st.fixed_dictionaries(
    {
        "count": st.none() | st.integers(1, 10**6),
        "taxon": st.none() | st.integers(1, 2**31 - 1),
        "name": st.text(TEXT, max_size=12),
        "suffix": st.sampled_from(["", " (Fragment)", " (Fragments)", " (Fragmented)"]),
        "members": st.lists(member, min_size=1, max_size=6),
        "sequence": st.text("ACDEFGHIKLMNPQRSTVWYXBZUOJ", min_size=1, max_size=90),
        "wrapped": st.booleans(),
    }
)


def written(writer: Writer, entries: list[dict]) -> bytes:
    text = ""
    for number, entry in enumerate(entries):
        references = []
        for one in entry["members"]:
            pairs = [("protein name", one["name"]), ("source organism", "x" + one["name"]), ("length", 5)]
            parc = one["accession"].startswith("UPI")
            if not parc:
                pairs += [("UniProtKB accession", one["accession"]), ("UniParc ID", "UPI0000000001")]
            if one["other"] is not None:
                pairs.append(("UniRef90 ID", "UniRef90_" + one["other"]))
            if one["taxon"] is not None:
                pairs.append(("NCBI taxonomy", one["taxon"]))
            kind = {"type": "UniParc ID" if parc else "UniProtKB ID", "id": one["accession"] + ("" if parc else "_X")}
            references.append(writer.tag("dbReference", writer.properties(pairs), **kind))
        sequence = entry["sequence"]
        lines = "\n ".join(re.findall(".{1,30}", sequence)) + "\n" if entry["wrapped"] else sequence
        first = references[0] + writer.tag("sequence", lines, length=len(sequence), checksum=crc64_hex(sequence))
        pairs = [("common taxon", entry["name"]), ("GO Molecular Function", "GO:1")]
        pairs += [
            (key, entry[field])
            for key, field in (("member count", "count"), ("common taxon ID", "taxon"))
            if entry[field]
        ]
        name = "".join(f"&#{ord(letter)};" for letter in entry["name"])
        inner = writer.between() + f"<name>Cluster: {name}{entry['suffix']}</name>" + writer.properties(pairs)
        inner += writer.tag("representativeMember", first)
        inner += "".join(writer.tag("member", reference) for reference in references[1:])
        text += writer.tag("entry", inner, id=f"UniRef50_A0A{number:07d}", updated="2024-05-29")
    root = 'UniRef50 xmlns="http://uniprot.org/uniref" version="2024_03"'
    return f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<{root}>{text}</UniRef50>\n<!-- end -->'.encode("latin-1")


def by_lxml(data: bytes) -> tuple[list[dict], list[tuple]]:
    """Records and members as lxml sees them."""
    records, claims = [], []
    for entry in etree.fromstring(data).iter(f"{NAMESPACE}entry"):
        of_entry = {p.get("type"): p.get("value") for p in entry.findall(f"{NAMESPACE}property")}
        sequence = "".join(entry.find(f".//{NAMESPACE}sequence").text.split())
        others: set[int] = set()
        first_with: dict[int, int] = {}
        for number, reference in enumerate(entry.iter(f"{NAMESPACE}dbReference")):
            of_member = {p.get("type"): p.get("value") for p in reference}
            taxon = int(of_member["NCBI taxonomy"]) if "NCBI taxonomy" in of_member else None
            if number == 0:
                representative, rep_taxon = reference.get("id"), taxon
            if "UniRef90 ID" in of_member:
                other = of_member["UniRef90 ID"].removeprefix("UniRef90_")
                others.add(key_of(other))
            accession = of_member.get("UniProtKB accession", reference.get("id"))
            if taxon not in (None, rep_taxon):
                first_with.setdefault(taxon, key_of(accession))
        key = key_of(entry.get("id").removeprefix("UniRef50_"))
        records.append(
            {
                "key": key,
                "id": entry.get("id"),
                "taxon_id": int(of_entry["common taxon ID"]) if "common taxon ID" in of_entry else None,
                "rep_taxon_id": rep_taxon,
                "member_count": int(of_entry["member count"]) if "member count" in of_entry else None,
                "listed_members": number + 1,
                "representative": representative,
                "length": len(sequence),
                "other_taxa": [{"taxon_id": taxon, "member_key": key} for taxon, key in sorted(first_with.items())],
                "fragment": re.search(r"\(Fragments?\)", entry.find(f"{NAMESPACE}name").text) is not None,
                "given_side": None,
                "sequence": sequence,
            }
        )
        claims += [(key, other) for other in sorted(others)]
    return records, claims


@settings(max_examples=200, deadline=None)
@given(st.lists(entry_of, max_size=4), st.integers(0, 2**32))
def test_same_records_and_members_as_lxml(entries, seed):
    data = written(Writer(seed), entries)
    records, claims = by_lxml(data)
    found = parsed(data)
    assert found.status.tolist() == [OK] * len(entries)
    assert found.records.to_pylist() == records
    assert [tuple(row.values()) for row in found.members.to_pylist()] == claims
    found.records.validate(full=True)


@pytest.mark.parametrize("size", [1, 23, 40, 5000])
def test_members_and_taxa_of_a_large_cluster_are_deduplicated(entry, xml, size):
    """Each taxon has the first member with it; the representative's taxon (10) is not repeated."""
    members = [(f"P{10000 + i}", f"P{10000 + i % 20}", 9 + i * 7 % 13) for i in reversed(range(size))]
    found = parsed(xml(entry("Q6GZX4", members=tuple(members))))
    rows = found.members.to_pylist()
    assert [row["member_key"] for row in rows] == sorted(
        {key_of("Q6GZX4")} | {key_of(f"P{10000 + i}") for i in range(min(size, 20))}
    )
    assert {row["cluster_key"] for row in rows} == {key_of("Q6GZX4")}
    assert found.member_end.tolist() == [0, len(rows)]
    first = {taxon: name for name, _other, taxon in reversed(members) if taxon != 10}
    (record,) = found.records.to_pylist()
    assert record["other_taxa"] == [
        {"taxon_id": taxon, "member_key": key_of(name)} for taxon, name in sorted(first.items())
    ]
    assert record["listed_members"] == record["member_count"] == 1 + size


def test_members_are_counted_as_they_are_listed(entry, xml):
    """Not as the entry states, and also where a member says nothing that the records need."""
    text = entry("P12345").replace("</entry>", "<member></member><member>\n</member></member></entry>")
    (record,) = parsed(xml(text)).records.to_pylist()
    assert (record["member_count"], record["listed_members"], record["other_taxa"]) == (1, 4, [])


def test_members_of_uniref90_are_its_uniref50_cluster(entry, xml):
    text = entry("Q6GZX4", level="90", members=(("P12345", "O15492", 5),))
    text = text.replace("UniRef50_Q6GZX4", "UniRef50_O15492")
    found = parsed(xml(text, level="90"), "90")
    assert [(row["cluster_key"], row["member_key"]) for row in found.members.to_pylist()] == [
        (key_of("Q6GZX4"), key_of("O15492"))
    ]


def test_an_entry_without_sequence_is_empty_and_one_without_fields_has_nulls(xml):
    found = parsed(
        xml('<entry id="UniRef50_X"></entry><entry id="UniRef50_Y"><sequence length="0" checksum="0"/></entry>')
    )
    assert found.status.tolist() == [EMPTY, EMPTY]
    first = found.records.to_pylist()[0]
    assert first == {
        "key": key_of("X"), "id": "UniRef50_X", "taxon_id": None, "rep_taxon_id": None, "member_count": None,
        "listed_members": 0, "representative": None, "length": 0, "other_taxa": [],
        "fragment": None, "given_side": None, "sequence": "",
    }  # fmt: skip


ENTRY = '<entry id="UniRef50_X"><representativeMember>{}</representativeMember></entry>'
GOOD = '<entry id="UniRef50_P12345"><sequence length="3" checksum="72C336F000000000">MKV</sequence></entry>'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY.format('<sequence checksum="0">A</sequence>'), "a sequence without a readable length and checksum"),
        (ENTRY.format('<sequence length="1" checksum="0G">A</sequence>'), "without a readable length and checksum"),
        (ENTRY.format('<property type="UniRef90 ID" value="UniRef50_X"/>'), "does not begin with UniRef90_"),
        (ENTRY.format("<sequence/><sequence/>"), "second sequence"),
        (ENTRY.format("<entry id='y'></entry>"), "inside another entry"),
        (ENTRY.format("<property type='a' value='&foo;'/>"), "not the XML"),
        (ENTRY.format("<property type='a' value='&#;'/>"), "not the XML"),
        (ENTRY.format("<property type='a' value='&#xZ;'/>"), "not the XML"),
        (ENTRY.format("<property type='a' value='a<b'/>"), "not the XML"),
        (ENTRY.format("<property type='a'value='b'/>"), "not the XML"),
        (ENTRY.format("<property type=a value='b'/>"), "not the XML"),
        (ENTRY.format("<property type/>"), "not the XML"),
        (ENTRY.format("<property type='a' / >"), "not the XML"),
        (ENTRY.format("<![CDATA[x]]>"), "not the XML"),
        (ENTRY.format("</property x>"), "not the XML"),
        ("<entry id='UniRef50_X'/>", "not the XML"),
        ("<!ENTITY x>", "not the XML"),
        ("text", "'text</UniRef50>\\n' at byte"),
        ("<other/>", "where an entry or </UniRef50> is expected"),
    ],
)
def test_what_is_not_a_release_is_an_error_with_its_place(stage, xml, text, problem):
    data = xml(GOOD, text)
    with pytest.raises(UserError) as error:
        stage.run(data, bad_entries="remove")
    assert problem in str(error.value)
    start = data.index(text.encode())
    offsets = [int(found.replace(",", "")) for found in re.findall(r"byte ([\d,]+)", str(error.value))]
    assert all(start <= offset < start + len(text) for offset in offsets) and offsets
    assert not list(stage.output.rglob("*.*"))


@pytest.mark.parametrize("cut", [30, 150, 350, 700, -12, -2])
def test_a_truncated_document_is_an_error(stage, entry, xml, cut):
    with pytest.raises(UserError, match=r"truncated|is expected|no UniRef root"):
        stage.run(xml(entry("P12345"))[:cut])
    assert not list(stage.output.rglob("*.*"))


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ('<?xml version="1.0" encoding="UTF-16"?>\n', "encoding UTF-16"),
        ("<UniRef90>", "root element is UniRef90, not UniRef50"),
        ("<!-- x --><html>", "root element is html"),
    ],
)
def test_another_document_is_an_error(stage, xml, head, problem):
    with pytest.raises(UserError, match=problem):
        stage.run(xml(GOOD, head=head))


@pytest.mark.parametrize(
    "head",
    ["", "<?xml version='1.0' encoding='utf-8'?><!-- a > b -->\n<!DOCTYPE UniRef50 SYSTEM 'uniref.dtd'>\n", "\n"],
)
def test_heads_of_other_shapes(stage, xml, head):
    assert stage.run(xml(GOOD, head=head)).facts["release"] == "2024_03"


# --- inputs that take an expression long -----------------------------------------------------------------------------

ENTRY = b"<entry id='UniRef50_A'></entry>"
HEADS = {
    "blanks": b" " * 60_000,
    "blanks behind the declaration": b"<?xml version='1.0'?>" + b"\n" * 60_000 + b"<",
    "comments": b"<!---->" * 8000 + b"<!",
    "comments in comments": b"<!-- --> -->" * 5000,
    "a comment without end": b"<!--" + b" -" * 30_000,
    "declarations": b"<?xml " * 10_000,
    "document types": b"<!DOCTYPE a>" * 5000 + b"<!DOCTYPE a",
    "document types without end": b"<!DOCTYPE " * 6000,
    "tags without end": b"<a " * 20_000,
    "encodings": b"<?xml" + b" encoding" * 7000 + b"?><UniRef50 >",
    "versions": b"<UniRef50" + b" version= " * 6000 + b">",
    "quotes": b"<UniRef50" + b" version='" * 6000,
}
TAILS = {
    "blanks": b"</UniRef50>" + b" " * 100_000 + b"x",
    "blanks in the tag": b"</UniRef50" + b" " * 100_000 + b"x",
    "comments": b"</UniRef50>" + b"<!---->" * 20_000 + b"x",
    "comments in comments": b"</UniRef50>" + b"<!---->-->" * 20_000,
    "blanks and comments": b"</UniRef50>" + b" <!-- --> -->" * 20_000,
    "comments without end": b"</UniRef50>" + b"<!--" * 50_000,
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads_are_read_in_linear_time(kind):
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        if read_head(HEADS[kind], "UniRef50", "file")[1] is None:
            raise UserError("a head without a release")
    assert time.process_time() - began < 0.5 and len(caught.value.line()) < 300


@pytest.mark.parametrize("kind", TAILS)
def test_ends_are_read_in_linear_time(kind):
    parsed(b"<UniRef50></UniRef50><!-- compiled before the clock starts -->")
    began = time.process_time()
    with pytest.raises(UserError, match=r"where an entry or </UniRef50> is expected") as caught:
        parsed(b"<UniRef50>" + TAILS[kind])
    assert time.process_time() - began < 0.5 and len(caught.value.line()) < 300


@pytest.mark.parametrize("tail", [b"", b"\n", b" <!-- one --> <!---->\n<!-- a > b -- c -->"])
def test_what_may_follow_the_root(tail):
    assert len(parsed(b"<UniRef50></UniRef50 >" + tail).status) == 0


@pytest.mark.parametrize("noise", [b"<entry " * 50_000, b"<entry" + b" id" * 100_000, b"<entry id" + b" " * 200_000])
def test_a_duplicate_is_located_in_linear_time(noise, tmp_path):
    path = tmp_path / "x.xml"
    path.write_bytes(b"<!--" + noise + b"-->" + ENTRY + ENTRY)
    began = time.process_time()
    offset = len(noise) + 7
    found = locate_in_xml(path, ["UniRef50_A"])
    assert found == [("UniRef50_A", offset), ("UniRef50_A", offset + len(ENTRY))]
    assert time.process_time() - began < 0.5
