"""Which URLs are opened at all: a document may name any, and fsspec would follow it anywhere."""

from __future__ import annotations

import os
import re

import fsspec.utils

from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials

PROTOCOLS = ("file", "local", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "https", "memory")
"""Of what is opened. Not http: whoever stands between could change what is read."""
PROTOCOLS_VARIABLE = "MFSYNTH_PROTOCOLS"
"""Of the environment: more protocols, with commas between."""

# Some implementations give code, commands or other URLs in their files a meaning.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def require_openable(url: str) -> None:
    """Refuse a URL that leads through other file systems than mfsynth's own.

    Args:
        url: A local path, or the URL of a file or a folder.

    Raises:
        MfsynthError: It is a chain of file systems (`a::b`), or of a protocol that is neither in
            `PROTOCOLS` nor in the environment's `MFSYNTH_PROTOCOLS`.
    """
    shown = without_credentials(url)
    if "::" in url:
        raise MfsynthError(
            f"{shown}: chained URLs (with ::) are not opened; give the path or URL of the file"
        )
    protocol = fsspec.utils.get_protocol(url)
    if protocol in PROTOCOLS or protocol in _more_protocols():
        return
    raise MfsynthError(
        f"{shown}: files of {protocol}:// are not opened; use one of {', '.join(PROTOCOLS)}, or "
        f"set {PROTOCOLS_VARIABLE}={protocol} if you trust whoever named it"
    )


def require_lasting(url: str) -> None:
    """Refuse a URL of a place that ends with this process.

    Raises:
        MfsynthError: It is one of `memory://`.
    """
    if fsspec.utils.get_protocol(url) == "memory":
        raise MfsynthError(
            f"{without_credentials(url)}: gone when the command ends; give a folder or an object "
            "store's URL"
        )


def is_on_this_machine(url: str) -> bool:
    """Whether it is a path, with or without a scheme."""
    return fsspec.utils.get_protocol(url) in ("file", "local")


def _more_protocols() -> tuple[str, ...]:
    given = os.environ.get(PROTOCOLS_VARIABLE, "").split(",")
    return tuple(name for name in map(str.strip, given) if _NAME.fullmatch(name))
