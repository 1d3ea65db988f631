"""Where a file of the release directory comes from, and what is known about it before the download."""

import re
from dataclasses import dataclass

from unirefine.config import Release
from unirefine.errors import UserError
from unirefine.files.names import IDMAPPING, TAXDUMP, parse_purge_list
from unirefine.release import transport
from unirefine.release.metalink import Metalink, parse
from unirefine.release.transport import Patience

METALINK = "RELEASE.metalink"
_UNIREF = re.compile(r"(uniref(?:50|90|100))\.(?:xml\.gz|fasta\.gz|release_note)")
_MD5 = re.compile(r"\s*([0-9a-fA-F]{32})\b")


@dataclass(frozen=True)
class Origin:
    """Where one file can be had, and what it must be."""

    urls: tuple[str, ...]
    release: str | None = None
    size: int | None = None
    md5: str | None = None
    authority: str = ""
    """Who says so: the address of the metalink or the md5 file."""


def patience_of(config: Release) -> Patience:
    """The patience that the config asks for."""
    return Patience(stall_seconds=config.stall_seconds, attempts=config.attempts)


def find(file: str, config: Release, patience: Patience) -> Origin:
    """Where `file` (a name in the release directory) comes from.

    Raises UserError for a name that this config does not provide for, a metalink that cannot be had, names another
    release or does not list the file.
    """
    purge = parse_purge_list(file)
    if purge is not None and purge < len(config.purge_lists):
        return Origin((config.purge_lists[purge],))
    if file == TAXDUMP and config.taxdump is not None:
        return _with_md5_file(config.taxdump, patience)
    if config.source == "current":
        level = _UNIREF.fullmatch(file)
        if level:
            return _listed(file, f"current_release/uniref/{level[1]}", config, patience)
        if file == IDMAPPING:
            return _listed(file, "current_release/knowledgebase/idmapping", config, patience)
    raise UserError(
        f"{file} is not a file of this release (source: {config.source})",
        fix="files: uniref50.xml.gz, uniref90.fasta.gz, uniref50.release_note and the like, and for source `current` "
        "idmapping_selected.tab.gz; taxdump.tar.gz and purge-0.txt where they are configured",
    )


def find_archive(config: Release, patience: Patience) -> Origin:
    """Where the one tarball of an older release comes from. Raises UserError as `find` does."""
    return _listed(f"uniref{config.name}.tar.gz", f"previous_releases/release-{config.name}/uniref", config, patience)


def _listed(file: str, directory: str, config: Release, patience: Patience) -> Origin:
    """A file of UniProt's, as the first usable metalink describes it, at every mirror that is not known to differ."""
    found: tuple[str, Metalink] | None = None
    urls, reasons = [], []
    for mirror in config.mirrors:
        base = f"{mirror.rstrip('/')}/{directory}"
        urls.append(f"{base}/{file}")
        if found is not None:
            continue
        try:
            metalink = _read_metalink(f"{base}/{METALINK}", patience)
        except UserError as error:
            urls.pop()
            reasons.append(f"{error.where}: {error.what}" if error.where else error.what)
            continue
        if config.name is not None and metalink.release != config.name:
            urls.pop()
            reasons.append(f"{transport.host_of(mirror)} serves release {metalink.release}, not {config.name}")
            continue
        found = f"{base}/{METALINK}", metalink
    if found is None:
        wrong = [reason for reason in reasons if " serves release " in reason]
        raise UserError(
            "; ".join(wrong or reasons),
            fix="set release.name to it, or release.source: archive for an older release" if wrong
            else "check the address, release.mirrors and your network",
        )  # fmt: skip
    authority, metalink = found
    if file not in metalink.files:
        raise UserError(f"does not list {file}; it lists {', '.join(sorted(metalink.files))}", where=authority)
    listed = metalink.files[file]
    return Origin(tuple(urls), metalink.release, listed.size, listed.md5, authority)


def _read_metalink(url: str, patience: Patience) -> Metalink:
    data = transport.read_small([url], what=METALINK, patience=patience)
    try:
        return parse(data)
    except ValueError as error:
        raise UserError(str(error), where=url) from None


def _with_md5_file(url: str, patience: Patience) -> Origin:
    """A file that may have its md5 in a file beside it, as NCBI's do."""
    beside = f"{url}.md5"
    try:
        text = transport.read_small([beside], what="the md5 file", patience=patience).decode("ascii", errors="replace")
    except transport.NowhereError:
        return Origin((url,))
    match = _MD5.match(text)
    if match is None:
        raise UserError(f"is not an md5 file: {text[:40]!r}", where=beside)
    return Origin((url,), md5=match[1].lower(), authority=beside)
