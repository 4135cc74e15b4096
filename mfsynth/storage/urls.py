"""URLs that mean one place, whoever reads them and wherever."""

from __future__ import annotations

import re
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials

_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
# Also of other systems' paths, and with what slips in when a URL is copied or typed.
_HALF_A_SCHEME = re.compile(r"([A-Za-z][\w+.-]*?)(:[/\\]|:|[^\w/]?//)")
_SLIPS = " \t\"'`<\u00a0\ufeff"
_LOCAL = ("file", "local")
_AZURE = ("az", "abfs", "abfss", "adl")
_BUCKETS = ("s3", "s3a", "gs", "gcs", *_AZURE)
_OTHERS = (
    *("http", "https", "hdfs", "webhdfs", "sftp", "ssh", "ftp", "oss", "memory"),
    *("s3n", "wasb", "wasbs"),
)
# It parses parts of paths as URLs, in which these have a meaning.
_AZURE_MISREADS = re.compile(r"\\|\?/*$|^[^/]*/+[^/]*[\[\]:@?#]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def absolute_url(url: str) -> str:
    """A URL as it is, and a local path, with or without a scheme, as an absolute one without.

    Nothing in it is a pattern: `*`, `?` and `[ ]` are characters of names.

    Raises:
        MfsynthError: It is neither, or one that could be meant as either.
    """
    if not url.strip() or _CONTROL.search(url):
        raise MfsynthError(f"{url!r} is no place to store things; give a folder or a URL")
    if url.startswith(("/", ".", "~")):
        return _absolute(url)
    shown = without_credentials(url)
    scheme = _SCHEME.match(url)
    if "::" in url and ("://" in url or url.split("::")[0] in (*_LOCAL, *_BUCKETS, *_OTHERS)):
        raise MfsynthError(f"{shown}: chained URLs are no place to store things; give a plain one")
    if scheme is None:
        _require_a_path(url, shown)
        return _absolute(url)
    rest = url[scheme.end() :]
    if scheme[1] in _LOCAL:
        if not rest.startswith("/"):
            raise MfsynthError(f"{shown}: not absolute; give {scheme[1]}:///folder, or a path")
        return _absolute(rest)
    if scheme[1] in _BUCKETS and (not rest or rest.startswith("/")):
        raise MfsynthError(f"{shown} names no bucket; give {scheme[1]}://bucket/run")
    if scheme[1] in _BUCKETS and "?versionid=" in rest.lower():
        raise MfsynthError(f"{shown}: one version of an object is no place; leave ?versionId= out")
    if scheme[1] in _AZURE and _AZURE_MISREADS.search(rest):
        raise MfsynthError(
            f"{shown}: Azure's package would take it for another place; give one without \\, a ? "
            "at the end, and any of []:@?# in the first folder"
        )
    return url


def where_sought(place: str) -> str:
    """For errors: ` in FOLDER` of a path that is relative to the folder a command was started in.

    Nothing of URLs and absolute paths, which say it themselves.
    """
    if "://" in place or place.startswith(("/", "~")):
        return ""
    return f" in {Path.cwd()}"


def _require_a_path(url: str, shown: str) -> None:
    half = _HALF_A_SCHEME.match(url.lstrip(_SLIPS))
    known = half is not None and half[1].lower() in (*_LOCAL, *_BUCKETS, *_OTHERS)
    odd = half is not None and (half[2] in (":/", ":\\") or known)
    if odd or "://" in url or url[0] in _SLIPS:
        meant = f"{half[1].lower()}://…" if half is not None else "scheme://…"
        raise MfsynthError(
            f"{shown} is neither a URL nor clearly a path; give {meant}, or ./{shown} for a folder"
        )


def _absolute(path: str) -> str:
    try:
        # Not of `./~x`, which for a Path is the same.
        place = Path(path).expanduser() if path.startswith("~") else Path(path)
        absolute = str(place.absolute())
    except (OSError, RuntimeError) as error:
        raise MfsynthError(f"{path}: {error}; give an absolute path") from error
    # POSIX leaves it open what two slashes at the start mean; elsewhere they are one.
    return "/" + absolute.lstrip("/")
