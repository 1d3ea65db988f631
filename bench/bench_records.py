"""UniRef files to Parquet records, beside readers that only parse and decoders that only decompress.

Ours does more than any of the others: it checks ids and letters (in XML every CRC64 and length too), packs keys, writes
the compressed Parquet parts and looks for duplicate ids. Megabytes are of decompressed data, time is wall time. The
output goes to memory (/dev/shm) where there is one, because the disk is not what is compared.
"""

import gzip
import re
import tempfile
from pathlib import Path

from paired import main
from release_files import uniref_file

SHARED_MEMORY = Path("/dev/shm")
OUTPUT = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
NAMESPACE = "{http://uniprot.org/uniref}"


def fasta_file() -> tuple[Path, float]:
    """A UniRef90 FASTA.gz and its decompressed size in MB."""
    return _sized(uniref_file("uniref90.fasta.gz", repeats=24))


def xml_file() -> tuple[Path, float]:
    """A UniRef50 XML.gz and its decompressed size in MB."""
    return _sized(uniref_file("uniref50.xml.gz", repeats=12))


def _sized(path: Path) -> tuple[Path, float]:
    with path.open("rb") as handle:
        handle.seek(-4, 2)
        return path, int.from_bytes(handle.read(4), "little") / 1e6


def fasta_stage(threads: int = 2):
    """The whole stage, compiled beforehand."""
    from unirefine.config import Records
    from unirefine.records.run import run as run_stage

    path, megabytes = fasta_file()

    def run(source: Path = path, parts: int = 4) -> None:
        with tempfile.TemporaryDirectory(dir=OUTPUT) as output:
            run_stage(Records(parts=parts), "uniref90", source, Path(output), threads=threads)

    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory) / "small.fasta"
        small.write_text(">UniRef90_P12345 x n=1 Tax=y TaxID=1 RepID=Z\nMKVA\n")
        run(small, 1)
    return megabytes, run


def decoder(open_file):
    """Decompress into one buffer again and again."""
    path, megabytes = fasta_file()

    def run() -> None:
        buffer = memoryview(bytearray(1 << 20))
        with open_file(path, "rb") as handle:
            while handle.readinto(buffer):
                pass

    return megabytes, run


def isal():
    """isal's igzip, decompression only."""
    from isal import igzip

    return decoder(igzip.open)


def zlib_ng():
    """zlib-ng, decompression only."""
    from zlib_ng import gzip_ng

    return decoder(gzip_ng.open)


def biopython():
    """Biopython's SimpleFastaParser over gzip.open, records thrown away."""
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    path, megabytes = fasta_file()

    def run() -> None:
        with gzip.open(path, "rt") as handle:
            for _title, _sequence in SimpleFastaParser(handle):
                pass

    return megabytes, run


def dnaio_reader():
    """dnaio, which decompresses with isal, records thrown away."""
    import dnaio

    path, megabytes = fasta_file()

    def run() -> None:
        with dnaio.open(path) as records:
            for _record in records:
                pass

    return megabytes, run


def needletail_reader():
    """needletail, records thrown away."""
    from needletail import parse_fastx_file

    path, megabytes = fasta_file()

    def run() -> None:
        for _record in parse_fastx_file(str(path)):
            pass

    return megabytes, run


def xml_stage():
    """The whole stage from the compressed file, compiled beforehand."""
    from unirefine.config import Records
    from unirefine.core.crc64 import crc64_hex
    from unirefine.records.run import run as run_stage

    path, megabytes = xml_file()

    def run(source: Path = path, parts: int = 4) -> None:
        with tempfile.TemporaryDirectory(dir=OUTPUT) as output:
            run_stage(Records(parts=parts), "uniref50", source, Path(output), threads=2)

    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory) / "small.xml"
        small.write_text(
            '<UniRef50><entry id="UniRef50_P12345"><representativeMember><dbReference type="UniProtKB ID" id="A">'
            '<property type="UniRef90 ID" value="UniRef90_P12345"/></dbReference>'
            f'<sequence length="3" checksum="{crc64_hex("MKV")}">MKV</sequence></representativeMember></entry>'
            "</UniRef50>"
        )
        run(small, 1)
    return megabytes, run


def xml_scanner():
    """Only the scanner (parse and verify, no decompression, no Parquet), one thread."""
    from unirefine.records.run import inspect
    from unirefine.records.stream import read_blocks
    from unirefine.records.uniref_xml import parse

    path, _megabytes = xml_file()
    found = inspect(path, "uniref50", strict=True)
    blocks = list(read_blocks(path, found.marker, found.keep))

    def scan(block) -> None:
        start = 0 if block.offset else found.head
        parse(block, start, "UniRef50", "UniRef90", verify=True, path=path)

    scan(blocks[0])

    def run() -> None:
        for block in blocks[1:]:
            scan(block)

    return sum(len(block.raw) for block in blocks[1:]) / 1e6, run


def lxml_iterparse():
    """lxml's iterparse over igzip: id, counts, taxa, representative, members, sequence; no verification."""
    from isal import igzip
    from lxml import etree

    path, megabytes = xml_file()

    def run() -> None:
        with igzip.open(path) as handle:
            for _event, entry in etree.iterparse(handle, tag=f"{NAMESPACE}entry"):
                fields = {p.get("type"): p.get("value") for p in entry.findall(f"{NAMESPACE}property")}
                members = []
                for reference in entry.iter(f"{NAMESPACE}dbReference"):
                    of_member = {p.get("type"): p.get("value") for p in reference}
                    members.append((reference.get("id"), of_member.get("UniRef90 ID"), of_member.get("NCBI taxonomy")))
                _ = entry.get("id"), fields, members, next(entry.iter(f"{NAMESPACE}sequence")).text
                entry.clear()
                while entry.getprevious() is not None:
                    del entry.getparent()[0]

    return megabytes, run


def python_re():
    """Python's re over igzip, entry by entry: the same fields with patterns; no verification, no entities."""
    from isal import igzip

    path, megabytes = xml_file()
    property_of = re.compile(rb'<property type="([^"]*)" value="([^"]*)"/>')
    reference_of = re.compile(rb'<dbReference type="[^"]*" id="([^"]*)">')
    sequence_of = re.compile(rb"<sequence[^>]*>([^<]*)</sequence>")
    entry_of = re.compile(rb'<entry id="([^"]*)".*?</entry>', re.DOTALL)

    def run() -> None:
        rest = b""
        with igzip.open(path) as handle:
            while chunk := handle.read(1 << 22):
                rest, end = rest + chunk, 0
                for entry in entry_of.finditer(rest):
                    text, end = entry[0], entry.end()
                    _ = entry[1], property_of.findall(text), reference_of.findall(text), sequence_of.search(text)[1]
                rest = rest[end:]

    return megabytes, run


TABLES = {
    "FASTA.gz to records": (
        "MB",
        {
            "unirefine records, 2 threads": fasta_stage,
            "isal igzip, decompression only": isal,
            "zlib-ng, decompression only": zlib_ng,
            "Biopython SimpleFastaParser over gzip": biopython,
            "dnaio": dnaio_reader,
            "needletail": needletail_reader,
        },
    ),
    "UniRef XML.gz to records": (
        "MB",
        {
            "unirefine records, 2 threads": xml_stage,
            "unirefine's scanner alone, 1 thread": xml_scanner,
            "lxml iterparse over igzip": lxml_iterparse,
            "Python re over igzip": python_re,
        },
    ),
}

if __name__ == "__main__":
    main(TABLES, rounds=3)
