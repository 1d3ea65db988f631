"""UniRef files for benchmarks: the demo's release, its entries repeated under ids of their own."""

import gzip
import itertools
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))
from minisite.site import build_demo

DATA = Path(__file__).parent / "results" / "data"
_FASTA_ID, _XML_ID = re.compile(rb"^>UniRef90_\S+", re.MULTILINE), re.compile(rb'<entry id="UniRef50_[^"]+"')
_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _accession(number: int) -> bytes:
    digits = bytearray()
    for _ in range(7):
        number, digit = divmod(number, 36)
        digits.append(_LETTERS[digit])
    return b"A0A" + bytes(reversed(digits))


def uniref_file(name: str, repeats: int) -> Path:
    """`uniref90.fasta.gz` or `uniref50.xml.gz`, about 8.5 and 16 MB a repeat before gzip -6; made once and kept."""
    path = DATA / f"{repeats}-{name}"
    if path.exists():
        return path
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory) / "site"
        build_demo(site)
        once = gzip.decompress((site / "current_release" / "uniref" / name.split(".")[0] / name).read_bytes())
    numbers = itertools.count()
    if "fasta" in name:
        text = b"".join(
            _FASTA_ID.sub(lambda _: b">UniRef90_" + _accession(next(numbers)), once) for _ in range(repeats)
        )
    else:
        start, end = once.index(b"<entry"), once.rindex(b"</UniRef50>")
        entries = (
            _XML_ID.sub(lambda _: b'<entry id="UniRef50_%s"' % _accession(next(numbers)), once[start:end])
            for _ in range(repeats)
        )
        text = b"".join([once[:start], *entries, once[end:]])
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(gzip.compress(text, 6, mtime=0))
    temporary.rename(path)
    return path
