"""Tarballs as UniProt's archive has them, and tar members that tarfile would not write."""

import gzip
import io
import tarfile

from unirefine.release.archive import WANTED

FILES = {name: f"content of {name}\n".encode() * 50 for name in WANTED}


def tar(*members, fmt=tarfile.GNU_FORMAT):
    """A tar. members: (name, content) of plain files, or the bytes of a member."""
    return b"".join(one if isinstance(one, bytes) else member(*one, fmt=fmt) for one in members) + bytes(1024)


def member(name, content=b"", *, kind=tarfile.REGTYPE, size=None, fmt=tarfile.GNU_FORMAT, pax=None, linkname=""):
    """Header and padded content. size: what the header claims, also below 0. pax: keys of an extended header."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.pax_headers = kind, linkname, pax or {}
    entry.size = len(content)
    header = entry.tobuf(tarfile.PAX_FORMAT if pax else fmt, errors="surrogateescape")
    if size is not None:
        block = bytearray(header[-512:])
        block[124:136] = (
            b"\x80" + size.to_bytes(11, "big") if size >= 0 else b"\xff" + (256**11 + size).to_bytes(11, "big")
        )
        header = header[:-512] + checked(block)
    return header + content + bytes(-len(content) % 512)


def checked(block):
    """A header block with the right checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def inner(level, *more, files=FILES, fmt=tarfile.GNU_FORMAT):
    """The tar of one level, with more members at its end."""
    chosen = [(name, content) for name, content in files.items() if name.startswith(level)]
    return tar(("README", b"read me"), *chosen, *more, fmt=fmt)


def release(*more, in_90=(), files=FILES, fmt=tarfile.GNU_FORMAT):
    """The content of a release's tarball: the tars of three levels, and more members at the end."""
    return tar(
        ("uniref100.tar", tar(("uniref100.xml.gz", b"?" * 3000))),
        ("uniref90.tar", inner("uniref90", *in_90, files=files, fmt=fmt)),
        ("uniref50.tar", inner("uniref50", files=files, fmt=fmt)),
        *more,
        fmt=fmt,
    )


def read(content):
    """The files in a tarball's inner tars by name, as Python's tarfile finds them."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as outer:
        for one in outer:
            with tarfile.open(fileobj=outer.extractfile(one)) as level:
                found |= {entry.name: level.extractfile(entry).read() for entry in level}
    return found


def gzipped(content):
    """Without a date."""
    return gzip.compress(content, 1, mtime=0)
