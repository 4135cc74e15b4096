"""The fsspec file system behind a URL, and the places of keys in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec

from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.errors import reason_of
from mfsynth.storage.protocols import require_openable
from mfsynth.storage.urls import absolute_url

_S3 = ("s3", "s3a")
_GCS = ("gs", "gcs")
_AZURE = ("az", "abfs", "abfss")
# A reader of many commits waits for round trips, and botocore has 10 connections by default.
_S3_CONNECTIONS = 128
_EXTRAS = dict.fromkeys(_GCS, "gcs") | dict.fromkeys(_AZURE, "azure")


class Connection:
    """A URL that is opened when it is needed, in each process anew.

    fsspec's async implementations refuse to work in a forked child of the process that made them.

    Args:
        url: Local path or fsspec URL.

    Attributes:
        url: The same, whatever the working directory is: local paths are absolute.

    Raises:
        MfsynthError: The URL is malformed, fsspec has no implementation for it, or the package of
            that is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = absolute_url(url)
        # A path is one whatever is in it: nothing but the local file system gets it.
        if not self.is_local:
            require_openable(self.url)
        self._process = -1
        self._filesystem: Any = None
        self._root = ""
        self._open()

    def __reduce__(self) -> tuple[type[Connection], tuple[str]]:
        return Connection, (self.url,)

    @property
    def shown_url(self) -> str:
        """The URL to show people: without user, password and query."""
        return self.url if self.is_local else without_credentials(self.url)

    @property
    def filesystem(self) -> Any:
        """This process' own fsspec file system."""
        self._open()
        return self._filesystem

    @property
    def uncached(self) -> Any:
        """The file system with no listing in its memory."""
        self._open()
        self._filesystem.invalidate_cache()
        return self._filesystem

    @property
    def root(self) -> str:
        """Path of the store in the file system, without a slash at its end."""
        self._open()
        return self._root

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return self.url.startswith("/")

    @property
    def is_s3(self) -> bool:
        """Whether the store speaks S3."""
        return self._speaks(_S3)

    @property
    def is_gcs(self) -> bool:
        """Whether it is of Google's cloud."""
        return self._speaks(_GCS)

    @property
    def is_azure(self) -> bool:
        """Whether it is of Azure."""
        return self._speaks(_AZURE)

    def path(self, key: str) -> str:
        """Where an object lies in the file system; the root for `""`."""
        return f"{self.root}/{key}" if key else self.root or "/"

    def key(self, path: str) -> str:
        """The key of what the file system calls `path`; `""` for the root and what is outside."""
        # Implementations differ in the leading slash of what they list.
        absolute = path if path.startswith(self.root) else f"/{path}"
        folder = f"{self.root}/"
        return absolute.removeprefix(folder) if absolute.startswith(folder) else ""

    def contains(self, other: Connection) -> bool:
        """Whether the other one's root is this one's, or lies below it; links are followed."""
        if self.is_local and other.is_local:
            inner, outer = (Path(os.path.realpath(one.root)) for one in (other, self))
            return inner.is_relative_to(outer)
        return self.filesystem == other.filesystem and f"{other.root}/".startswith(f"{self.root}/")

    def _speaks(self, protocols: tuple[str, ...]) -> bool:
        protocol = self.filesystem.protocol
        names = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        return any(name in protocols for name in names)

    def _open(self) -> None:
        if self._process == os.getpid():
            return
        try:
            if self.is_local:
                # Of a path as it is: in a URL, fsspec would look for more than a path.
                self._filesystem, root = fsspec.filesystem("file"), self.url
            else:
                self._filesystem, root = fsspec.core.url_to_fs(self.url, **_options(self.url))
        except ImportError as error:
            extra = _EXTRAS.get(fsspec.utils.get_protocol(self.url))
            remedy = f'pip install "mfsynth[{extra}]"' if extra else "install it with pip"
            raise MfsynthError(f"{self.shown_url}: {error}; {remedy}") from error
        except ValueError as error:
            raise MfsynthError(
                f"{self.shown_url}: not a local path or a URL that fsspec can open "
                f"({reason_of(error, self.url)})"
            ) from None
        self._root = root.rstrip("/")
        self._process = os.getpid()


def _options(url: str) -> Mapping[str, Any]:
    protocol = fsspec.utils.get_protocol(url)
    if protocol not in _S3:
        return {}
    given = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    return {"config_kwargs": {"max_pool_connections": _S3_CONNECTIONS, **given}}
