"""Lay the miniature site out as ftp.uniprot.org is: current release, one archived release, and a taxonomy dump."""

import datetime
import gzip
import hashlib
import re
import shutil
from pathlib import Path

from minisite import formats
from minisite.derived import derive
from minisite.proteins import LEVELS, Cluster, Protein, choose, form_clusters, read_proteins, read_table
from minisite.taxonomy import Taxonomy, tar_bytes
from unirefine.core import levels
from unirefine.errors import UserError

DEMO = Path(__file__).parents[1] / "demo"
"""The committed proteins and their clusters, organisms and taxonomy."""
RELEASE, ARCHIVE = "2026_03", "2024_03"
"""The demo's current release, and the one that exists only as an archive."""

_README = """A miniature UniProt release, built by resources/minisite from a few thousand UniProtKB entries in the
layout and formats of ftp.uniprot.org. For tests and demonstrations only: it is not a UniProt release.
UniProt's data are distributed under the Creative Commons Attribution (CC BY 4.0) License.
"""


def build_demo(
    output: Path, *, release: str = RELEASE, archive: str = ARCHIVE, limit: int | None = None
) -> dict[str, int]:
    """Build the site of the committed proteins, or of `limit` UniRef50 clusters of them. See `build`."""
    return build(
        sorted(DEMO.glob("*.fasta.xz")), DEMO / "clusters.tsv.xz", output,
        taxonomy=DEMO / "taxonomy.tsv.xz", organisms=DEMO / "organisms.tsv.xz",
        release=release, archive=archive, limit=limit,
    )  # fmt: skip


def build(
    fasta: list[Path], clusters: Path, output: Path, *,
    taxonomy: Path, organisms: Path, release: str, archive: str, limit: int | None,
) -> dict[str, int]:  # fmt: skip
    """Build the site in `output` (replaced as a whole) and return the number of entries of each level.

    The bytes depend on the arguments and the input only. Raises UserError for unusable input.
    """
    for name in (release, archive):
        release_date(name)
    taxa = Taxonomy(read_table(taxonomy, 4))
    proteins = choose(read_proteins(fasta, clusters, organisms), taxa, limit)
    members = [*proteins, *derive(proteins)]
    clustered = {level: form_clusters(members, level, taxa) for level in LEVELS}
    if output.exists() and any(output.iterdir()) and not (output / "taxonomy" / "taxdump.tar.gz").exists():
        raise UserError("is not empty and not a miniature site", where=output, fix="name a new directory")
    scratch = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _write_current(scratch, clustered, proteins, release)
        _write_archive(scratch, clustered, archive)
        _write_taxonomy(scratch / "taxonomy", taxa)
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {level: len(entries) for level, entries in clustered.items()}


def release_date(release: str) -> datetime.date:
    """A date for a release name: the real one for the demo's releases, else the first of a month."""
    known = {"2026_03": datetime.date(2026, 9, 2), "2024_03": datetime.date(2024, 5, 29)}
    match = re.fullmatch(r"(\d{4})_(0[1-9]|1[0-2])", release)
    if match is None:
        raise UserError(f"{release!r} is not a release name", fix="write it as 2024_03")
    return known.get(release) or datetime.date(int(match[1]), int(match[2]), 1)


def gzip_bytes(data: bytes) -> bytes:
    """gzip without a date or a name."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def _write_current(site: Path, clustered: dict[str, list[Cluster]], proteins: list[Protein], release: str) -> None:
    for level in levels.LEVELS:
        path = f"current_release/uniref/{level}"
        directory = _directory(site, path)
        for name, data in _level_files(clustered[level], level, release).items():
            (directory / name).write_bytes(data)
        (directory / f"{level}.fasta.gz").write_bytes(gzip_bytes(formats.fasta(clustered[level], level).encode()))
        _write_metalink(directory, path, release)
    path = "current_release/knowledgebase/idmapping"
    directory = _directory(site, path)
    (directory / "README").write_text(_README)
    mapping = formats.idmapping_selected(proteins).encode()
    (directory / "idmapping_selected.tab.gz").write_bytes(gzip_bytes(mapping))
    _write_metalink(directory, path, release)


def _write_archive(site: Path, clustered: dict[str, list[Cluster]], release: str) -> None:
    path = f"previous_releases/release-{release}/uniref"
    directory = _directory(site, path)
    inner = {f"{level}.tar": tar_bytes(_level_files(clustered[level], level, release)) for level in reversed(LEVELS)}
    (directory / f"uniref{release}.tar.gz").write_bytes(gzip_bytes(tar_bytes(inner)))
    _write_metalink(directory, path, release)


def _level_files(clusters: list[Cluster], level: str, release: str) -> dict[str, bytes]:
    date = release_date(release)
    return {
        "README": _README.encode(),
        f"{level}.release_note": formats.release_note(level, release, date, len(clusters)).encode(),
        f"{level}.xml.gz": gzip_bytes(formats.xml(clusters, level, release, date)),
    }


def _write_taxonomy(directory: Path, taxa: Taxonomy) -> None:
    directory.mkdir(parents=True)
    dump = directory / "taxdump.tar.gz"
    taxa.write_taxdump(dump, gzip_bytes)
    digest = hashlib.md5(dump.read_bytes()).hexdigest()
    (directory / "taxdump.tar.gz.md5").write_text(f"{digest}  taxdump.tar.gz\n")


def _write_metalink(directory: Path, path: str, release: str) -> None:
    (directory / "RELEASE.metalink").write_text(formats.metalink(sorted(directory.iterdir()), path, release))


def _directory(site: Path, path: str) -> Path:
    directory = site / path
    directory.mkdir(parents=True)
    return directory
