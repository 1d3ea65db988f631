"""Addresses of files in the config: URLs, `file:` URLs and plain paths."""

import urllib.parse
import urllib.request
from pathlib import Path

from unirefine.errors import UserError


def local_path(url: str) -> Path | None:
    """The local file that a `file:` URL (absolute or relative) or a plain path names; None for http and https.

    Raises UserError for any other scheme, and for what is no address.
    """
    scheme, separator, rest = url.partition(":")
    if scheme in ("http", "https"):
        return None
    if scheme == "file":
        try:
            return Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path if rest.startswith("//") else rest))
        except ValueError as error:
            raise UserError(f"not an address ({error})", where=url) from None
    if separator and rest.startswith("//"):
        raise UserError(f"cannot download over {scheme}, only over https, http or from a file: URL", where=url)
    return Path(url)


def is_path(url: str) -> bool:
    """Whether an address is a plain path, which may have a colon in it."""
    return not url.startswith("file:") and local_path(url) is not None
