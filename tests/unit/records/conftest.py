"""Small UniRef files, and the stage run on them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from minisite.site import build_demo

from unirefine.config import Records
from unirefine.core.crc64 import crc64_hex
from unirefine.core.tables import find_parts
from unirefine.records.run import run


def entry_xml(
    name: str,
    sequence: str = "MKVA",
    *,
    level: str = "50",
    members: tuple[tuple[str, str, int], ...] = (),
    length: int | None = None,
    checksum: str | None = None,
    taxon: int = 9606,
) -> str:
    """One entry; members: (accession, id at the other level, taxon) beside the representative, which is `name`."""
    other = "90" if level == "50" else "50"

    def reference(accession: str, cluster: str, taxon: int) -> str:
        return (
            f'<dbReference type="UniProtKB ID" id="{accession}_HUMAN">\n'
            f'<property type="UniProtKB accession" value="{accession}"/>\n'
            f'<property type="UniParc ID" value="UPI0000000001"/>\n'
            f'<property type="UniRef{other} ID" value="UniRef{other}_{cluster}"/>\n'
            f'<property type="NCBI taxonomy" value="{taxon}"/>\n<property type="length" value="9"/>\n</dbReference>\n'
        )

    return (
        f'<entry id="UniRef{level}_{name}" updated="2024-05-29">\n<name>Cluster: a &amp; b</name>\n'
        f'<property type="member count" value="{1 + len(members)}"/>\n<property type="common taxon" value="Homo"/>\n'
        f'<property type="common taxon ID" value="{taxon}"/>\n<representativeMember>\n{reference(name, name, 10)}'
        f'<sequence length="{len(sequence) if length is None else length}"'
        f' checksum="{checksum or crc64_hex(sequence)}">{sequence}</sequence>\n</representativeMember>\n'
        + "".join(f"<member>\n{reference(*member)}</member>\n" for member in members)
        + "</entry>\n"
    )


def document(*entries: str, level: str = "50", head: str = '<?xml version="1.0" encoding="ISO-8859-1" ?>\n') -> bytes:
    """A whole UniRef document."""
    root = f'UniRef{level} xmlns="http://uniprot.org/uniref" \nreleaseDate="2024-05-29" version="2024_03"'
    return f"{head}<{root}>\n{''.join(entries)}</UniRef{level}>\n".encode("latin-1")


class Stage:
    """Runs the stage in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.output = directory, directory / "out"

    def run(self, data: bytes, level: str = "uniref50", *, note: str | None = None, threads: int = 2, **config):
        """Run the stage on `data`, plain or gzip."""
        source = self.directory / "input"
        source.write_bytes(data)
        path = self.directory / "note"
        if note is not None:
            path.write_text(note)
        options = Records(**{"parts": 3, **config})
        return run(
            options, level, source, self.output, release_note=path if note is not None else None, threads=threads
        )

    def table(self, level: str = "uniref50", kind: str = "records") -> pa.Table:
        """All parts of a level, in order."""
        table = pa.concat_tables([pq.read_table(path) for path in find_parts(self.output, level, kind).paths])
        table.validate(full=True)
        return table

    def rows(self, level: str = "uniref50", kind: str = "records") -> list[dict]:
        """The same, as dictionaries."""
        return self.table(level, kind).to_pylist()

    def removed(self, level: str = "uniref50") -> list[dict]:
        """Rows of removed.parquet."""
        return pq.read_table(self.output / level / "removed.parquet").to_pylist()


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """A miniature UniProt site of 300 UniRef50 clusters."""
    directory = tmp_path_factory.mktemp("minisite") / "site"
    build_demo(directory, limit=300)
    return directory / "current_release" / "uniref"


@pytest.fixture(scope="session")
def entry():
    """Makes one entry: see `entry_xml`."""
    return entry_xml


@pytest.fixture(scope="session")
def xml():
    """Makes a document of entries: see `document`."""
    return document
