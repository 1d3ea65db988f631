"""Where a file of the release directory comes from, and what is known about it before the download."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.names import IDMAPPING, TAXDUMP, parse_purge_list
from unirefine.files.urls import local_path
from unirefine.release.connection import host_of
from unirefine.release.metalink import Metalink, parse
from unirefine.release.transport import Downloader, NotFoundError
from unirefine.terminal import brief

METALINK = "RELEASE.metalink"
_UNIREF = re.compile(r"(uniref(?:50|90|100))\.(?:xml\.gz|fasta\.gz|release_note)")
_MD5 = re.compile(r"\s*([0-9a-fA-F]{32})\b")


@dataclass(frozen=True)
class Origin:
    """The addresses of one file, and the size and checksum it must have."""

    urls: tuple[str, ...]
    release: str | None = None
    size: int | None = None
    md5: str | None = None
    authority: str = ""
    """Address of what states size and checksum: a metalink, an md5 file, the list of a data set."""
    sha256: str | None = None
    """Stated instead of the md5."""

    @property
    def kind(self) -> str:
        """Of the checksum: `md5` or `sha256`."""
        return "md5" if self.sha256 is None else "sha256"

    @property
    def checksum(self) -> str | None:
        """The one that is stated; None where none is."""
        return self.md5 if self.sha256 is None else self.sha256

    def agrees(self, hashes: Mapping[str, Any]) -> bool:
        """Whether a file with these hashes is the one described; True where no checksum is stated."""
        return self.checksum in (None, hashes[self.kind])

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine."""
        return all(local_path(url) is not None for url in self.urls)


def tarball_name(release: str | None) -> str:
    """The one file of an archived release: `uniref2024_03.tar.gz`."""
    return f"uniref{release}.tar.gz"


@dataclass(frozen=True)
class Sources:
    """Finds the files that a config asks for."""

    config: Release
    downloader: Downloader

    @classmethod
    def of(cls, config: Release, downloader: Downloader | None = None) -> "Sources":
        """The sources of a config, read with its own downloader unless another is given."""
        return cls(config, downloader or Downloader.of(config))

    def find(self, file: str) -> Origin:
        """Where `file` (a name in the release directory, or an archived release's tarball) comes from.

        Raises UserError for a name that this config does not provide, a metalink that cannot be read, is of another
        release or does not list the file.
        """
        config = self.config
        purge = parse_purge_list(file)
        if purge is not None and purge < len(config.purge_lists):
            return Origin((config.purge_lists[purge],))
        if file == TAXDUMP and config.taxdump is not None:
            return self._with_md5_file(config.taxdump)
        if config.source == "archive" and file == tarball_name(config.name):
            return self._listed(file, f"previous_releases/release-{config.name}/uniref")
        if config.source == "current":
            level = _UNIREF.fullmatch(file)
            if level:
                return self._listed(file, f"current_release/uniref/{level[1]}")
            if file == IDMAPPING:
                return self._listed(file, "current_release/knowledgebase/idmapping")
        raise UserError(
            f"{file} is not a file of this release (source: {config.source})",
            fix="files: uniref50.xml.gz, uniref90.fasta.gz, uniref50.release_note and the like, and for source"
            " `current` idmapping_selected.tab.gz; taxdump.tar.gz and purge-0.txt where they are configured",
        )

    def _listed(self, file: str, directory: str) -> Origin:
        """A file of UniProt's as the first usable metalink describes it, at every mirror not known to be different."""
        found: tuple[str, Metalink] | None = None
        urls, reasons, other_releases = [], [], []
        for mirror in self.config.mirrors:
            base = f"{mirror.rstrip('/')}/{directory}"
            if found is None:
                try:
                    metalink = self._read_metalink(f"{base}/{METALINK}")
                except UserError as error:
                    reasons.append(f"{error.where}: {error.what}" if error.where else error.what)
                    continue
                if self.config.name not in (None, metalink.release):
                    other_releases.append(
                        f"{host_of(mirror)} serves release {metalink.release}, not {self.config.name}"
                    )
                    continue
                found = f"{base}/{METALINK}", metalink
            urls.append(f"{base}/{file}")
        if found is None:
            raise UserError(
                "; ".join(other_releases or reasons),
                fix="set release.name to it, or release.source: archive for an older release" if other_releases
                else "check the address, release.mirrors and your network",
            )  # fmt: skip
        authority, metalink = found
        if file not in metalink.files:
            names = brief(", ".join(sorted(metalink.files)), 500)
            raise UserError(f"does not list {file}; it lists {names}", where=authority)
        listed = metalink.files[file]
        return Origin(tuple(urls), metalink.release, listed.size, listed.md5, authority)

    def _read_metalink(self, url: str) -> Metalink:
        data = self.downloader.read_small([url], what=METALINK)
        try:
            return parse(data)
        except ValueError as error:
            raise UserError(str(error), where=url) from None

    def _with_md5_file(self, url: str) -> Origin:
        """A file that may have its md5 in a file beside it, as NCBI's do. Only a 404 says that there is none."""
        beside = f"{url}.md5"
        try:
            text = self.downloader.read_small([beside], what="the md5 file").decode("ascii", errors="replace")
        except NotFoundError:
            return Origin((url,))
        match = _MD5.match(text)
        if match is None:
            raise UserError(f"is not an md5 file: {text[:40]!r}", where=beside)
        return Origin((url,), md5=match[1].lower(), authority=beside)
