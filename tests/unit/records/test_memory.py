"""Memory is bounded by blocks and the largest entry, not by the input: peak of the command in a process of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest
from isal import igzip

from unirefine.core.crc64 import crc64_hex

pytestmark = pytest.mark.slow
MIB = 1 << 20
INPUT = 1200 * MIB
"""Least size of the stream, decompressed: 600 blocks."""
GIANT = 100 * MIB
"""Least size of one entry in the middle of it: 50 blocks, twice UniRef's largest."""
CEILING = INPUT
"""Of the peak: the stream cannot have been held, and it is far below the 2 GB that are promised."""
AT_ONCE = 2000
"""Entries that are written in one call."""

FASTA = b">UniRef50_%s protein n=1 Tax=x TaxID=9606 RepID=%s_HUMAN\n%s\n"
REFERENCE = (
    b'<dbReference type="UniProtKB ID" id="%s_HUMAN">\n<property type="UniProtKB accession" value="%s"/>\n'
    b'<property type="UniRef90 ID" value="UniRef90_%s"/>\n<property type="NCBI taxonomy" value="9606"/>\n'
    b"</dbReference>\n"
)
MEMBER = b"<member>\n" + REFERENCE + b"</member>\n"
ENTRY = (
    b'<entry id="UniRef50_%s" updated="2024-05-29">\n<name>Cluster: x</name>\n'
    b'<property type="member count" value="1"/>\n<property type="common taxon ID" value="9606"/>\n'
    b"<representativeMember>\n"
    + REFERENCE
    + b'<sequence length="%d" checksum="%s">%s</sequence>\n</representativeMember>\n'
)
ROOT = b'<UniRef50 xmlns="http://uniprot.org/uniref" releaseDate="2024-05-29" version="2024_03">\n'


def accession(prefix, number):
    return b"%s%07d" % (prefix, number)


def fasta_entry(name, sequence, _checksum):
    return FASTA % (name, name, sequence)


def fasta_giant():
    return FASTA % (b"Q00001", b"Q00001", b"MKVA" * (GIANT // 4))


def xml_entry(name, sequence, checksum):
    return ENTRY % (name, name, name, name, len(sequence), checksum, sequence) + b"</entry>\n"


def xml_giant():
    """A cluster of as many members as it takes."""
    name, sequence = b"Q00001", b"MKVA"
    head = ENTRY % (name, name, name, name, len(sequence), crc64_hex("MKVA").encode(), sequence)
    names = (accession(b"B0B", number) for number in range(GIANT // (len(MEMBER) - 6 + 30)))
    return head + b"".join(MEMBER % (one, one, one) for one in names) + b"</entry>\n"


KINDS = {"fasta": (b"", fasta_entry, fasta_giant, b""), "xml": (ROOT, xml_entry, xml_giant, b"</UniRef50>\n")}


def write_stream(path, head, entry, giant, tail):
    """A release of one level with the giant in its middle: (decompressed bytes, entries)."""
    letters = np.random.default_rng(0).choice(np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8), (8, 2000))
    sequences = [row.tobytes() for row in letters]  # few enough that gzip makes the file small
    checksums = [crc64_hex(sequence.decode()).encode() for sequence in sequences]
    sequences, checksums = AT_ONCE // 8 * sequences, AT_ONCE // 8 * checksums
    total, entries = 0, 0
    with igzip.open(path, "wb", compresslevel=1) as file:
        total += file.write(head)
        while total < INPUT + GIANT:
            if total >= INPUT // 2 and giant is not None:
                size = file.write(giant())
                assert size >= GIANT
                total, entries, giant = total + size, entries + 1, None
            names = (accession(b"A0A", entries + i) for i in range(AT_ONCE))
            total += file.write(b"".join(map(entry, names, sequences, checksums)))
            entries += AT_ONCE
        total += file.write(tail)
    return total, entries


PEAK = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
status, usage = os.wait4(process.pid, 0)[1:]
print(status, usage.ru_maxrss)
"""


def peak_of(command):
    """Largest resident set of `unirefine ...`, in bytes.

    A process starts with the peak of the one that started it, so a small one does: that of the tests may have 2 GB.
    """
    measured = [sys.executable, "-m", "unirefine.cli.main", *command]
    done = subprocess.run([sys.executable, "-c", PEAK, *measured], capture_output=True, text=True, check=True)
    status, kilobytes = map(int, done.stdout.split())
    assert status == 0
    return kilobytes * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_input(kind, tmp_path):
    total, entries = write_stream(tmp_path / "uniref50.gz", *KINDS[kind])
    command = ["records", "--level", "uniref50", "--input", str(tmp_path / "uniref50.gz"), "--threads", "2"]
    peak = peak_of([*command, "--output", str(tmp_path), "--set", "parts=4"])
    counts = json.loads((tmp_path / "uniref50/counts.json").read_text())
    assert counts["bytes"] == total > INPUT + GIANT and counts["levels"]["uniref50"]["kept"] == entries
    assert peak < CEILING, f"{peak / MIB:.0f} MiB"
