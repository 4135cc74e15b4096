"""Objects by key in a local folder or behind an fsspec URL, and the few operations we trust.

Whoever builds on a store needs three things of it: a put that is whole or absent, a create that
fails if the key exists, and a listing. Everything here is one of those or a read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mfsynth.storage import atomic, listing
from mfsynth.storage.connection import Connection
from mfsynth.storage.errors import (
    StoreError,
    StoreFullError,
    StoreRefusedError,
    or_none,
    says_it_exists,
    translated,
    with_retries,
)
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.listing import Entry


class ObjectStore:
    """Objects by key. Open one with `ObjectStore.open`.

    It can be pickled and sent to other machines; remote connections are made again there and
    in forked processes. Throttling and errors of an object store are met with patience, every
    operation being one that may be repeated. Messages never show credentials.
    """

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)

    @classmethod
    def open(cls, url: str | os.PathLike[str]) -> ObjectStore:
        """The store at a local path or fsspec URL. Creates and checks nothing there.

        A relative path means what it means here and now: the store stays where it is when the
        working directory changes, and in other processes.

        Raises:
            MfsynthError: The URL is malformed, fsspec has no implementation for it, or the package
                of that is missing.
        """
        return cls(os.fspath(url))

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    @property
    def url(self) -> str:
        """The URL to show people: without user, password and query."""
        return self._connection.shown_url

    @property
    def location(self) -> str:
        """The URL by which other processes find it, with the credentials that it was given."""
        return self._connection.url

    @property
    def local_root(self) -> Path | None:
        """The folder of a local store, None for any other."""
        return Path(self._connection.root) if self._connection.is_local else None

    def overlaps(self, other: ObjectStore) -> bool:
        """Whether one of the two stores is, or lies in, the other one; links are followed."""
        return self._connection.contains(other._connection) or other._connection.contains(
            self._connection
        )

    def read_bytes(self, key: str) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: It could not be read.
        """
        with self._translated("read", key, missing_ok=False):
            self._require_file(key)
            return with_retries(lambda: self._read(key))

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Whole objects, side by side where the store can; raises as `read_bytes` does."""
        wanted = [*keys]
        if len(wanted) < 2 or self.local_root is not None:
            return {key: self.read_bytes(key) for key in wanted}
        with self._translated("read", wanted[0], missing_ok=False):
            # Not `cat`, for which keys are patterns.
            found: Sequence[bytes | Exception] = self._connection.filesystem.cat_ranges(
                [*map(self._connection.path, wanted)],
                starts=None,
                ends=None,
                on_error="return",
                **self._one_request(),
            )
        return {
            # What failed is read again by itself, so that one error costs one request.
            key: data if isinstance(data, bytes) else self.read_bytes(key)
            for key, data in zip(wanted, found, strict=True)
        }

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` of an object; fewer if it ends before.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: It could not be read.
        """
        with self._translated("read", key, missing_ok=False):
            filesystem, path = self._connection.filesystem, self._connection.path(key)
            end = start + length
            self._require_file(key)
            return with_retries(lambda: filesystem.cat_file(path, start=start, end=end))

    @contextlib.contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        """A local file with the object's bytes; raises as `read_bytes` does.

        It is the object itself in a local folder, else a copy that is removed afterwards.
        """
        if self.local_root is not None:
            with self._translated("read", key, missing_ok=False):
                self._require_file(key)
            yield Path(self._connection.path(key))
            return
        with tempfile.TemporaryDirectory(prefix="mfsynth-") as folder:
            copy = Path(folder) / Path(key).name
            try:
                with self._translated("read", key, missing_ok=False):
                    filesystem, path = self._connection.filesystem, self._connection.path(key)
                    with_retries(lambda: filesystem.get_file(path, str(copy)))
            except StoreFullError:
                # It is not the store that is full.
                raise StoreFullError(
                    f"no space left in {tempfile.gettempdir()} for a copy of {self.url}/{key}; "
                    "free some, or set TMPDIR to a larger disk, and run the same command again"
                ) from None
            yield copy

    def put_file(self, local_path: Path, key: str) -> None:
        """Upload a local file to `key`, over what is there.

        Visible: when it returns, whole; a kill before that leaves nothing at `key`.
        Idempotent: a retry after a lost acknowledgement writes the same bytes again.

        Raises:
            StoreFullError: No space is left.
            StoreError: It could not be written.
        """
        with self._translated("write", key):
            if self.local_root is not None:
                atomic.copy(local_path, self._local(key))
            else:
                filesystem, path = self._connection.filesystem, self._connection.path(key)
                with_retries(lambda: filesystem.put_file(str(local_path), path))

    def put_bytes(self, key: str, data: bytes) -> None:
        """Publish `data` at `key`, over what is there: as `put_file`, for documents."""
        with self._translated("write", key):
            if self.local_root is not None:
                atomic.replace(self._local(key), data)
            else:
                filesystem, path = self._connection.filesystem, self._connection.path(key)
                with_retries(lambda: filesystem.pipe_file(path, data))

    def create_if_absent(self, key: str, data: bytes) -> bool:
        """Publish `data` at `key` unless something is there; True if this call did.

        Visible: when it returns, whole; of all callers exactly one gets True (on a store that
        honours conditional writes: see `honours_create_if_absent`).
        A retry after a lost acknowledgement gets False: read the key to tell whose it is.

        Raises:
            StoreFullError: No space is left.
            StoreError: It could not be written.
        """
        with self._translated("create", key):
            if self.local_root is not None:
                return atomic.create_if_absent(self._local(key), data)
            filesystem, path = self._connection.filesystem, self._connection.path(key)
            try:
                with_retries(lambda: filesystem.pipe_file(path, data, mode="create"))
            except Exception as error:
                if says_it_exists(error):
                    return False
                raise
            return True

    def honours_create_if_absent(self, folder: str = "") -> bool:
        """Whether a second create of a key is refused here.

        Some object stores ignore the condition, and there only one writer at a time is safe.
        Writes and removes a probe; leaves nothing behind.

        Args:
            folder: Of the probe: one that may be written; "" for none.
        """
        key = probe_key(folder)
        try:
            # What is stored tells, where the answers may be those to a retry.
            self.create_if_absent(key, b"1")
            self.create_if_absent(key, b"2")
            return self.read_bytes(key) == b"1"
        finally:
            self.delete(key)

    def clock(self, folder: str = "") -> datetime | None:
        """What time it is to the store (UTC), or None if it doesn't date its objects.

        Writes and removes a probe; leaves nothing behind.

        Args:
            folder: Of the probe: one that may be written; "" for none.
        """
        key = probe_key(folder)
        try:
            self.put_bytes(key, b"1")
            with self._translated("look at", key):
                info = listing.description(self._connection, key)
                return listing.modified(info) if info else None
        finally:
            self.delete(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of an object, or None if there is none at `key`."""
        with self._translated("look at", key):
            info = listing.description(self._connection, key)
            return int(info["size"]) if info and info["type"] == "file" else None

    def list(self, prefix: str = "") -> Sequence[str]:
        """Sorted keys below a folder (`""` = all); includes temporaries of killed writers."""
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> Sequence[Entry]:
        """Sorted listing below a folder, one request a thousand objects on object stores.

        It is whole: a folder that can't be read is an error, never an empty one.
        """
        with self._translated("list", prefix):
            return listing.entries_below(self._connection, prefix)

    def top_level(self) -> Sequence[Entry]:
        """Sorted listing of the objects that lie in no folder."""
        with self._translated("list", ""):
            return listing.entries_at_top(self._connection)

    def any_key(self, *, ignoring: Callable[[str], bool]) -> str | None:
        """Some key that `ignoring` doesn't hold for, or None; looks no further than it has to."""
        with self._translated("list", ""):
            keys = listing.keys_one_by_one(self._connection)
            return next((key for key in keys if not ignoring(key)), None)

    def unfinished_uploads(self) -> Sequence[Entry]:
        """Multipart uploads of killed writers, which no listing of objects shows but S3 bills.

        Other stores forget them by themselves.
        """
        if not self._connection.is_s3:
            return []
        with self._translated("list the unfinished uploads of", ""):
            return listing.unfinished_uploads(self._connection)

    def delete(self, key: str) -> None:
        """Remove an object. Idempotent: nothing at `key` is no error."""
        with self._translated("delete", key):
            filesystem, path = self._connection.filesystem, self._connection.path(key)
            if not _found(lambda: filesystem.rm_file(path)):
                listing.require_a_way_to(self._connection, key)

    def discard(self, entry: Entry) -> bool:
        """Remove what a listing showed: an object, or an unfinished upload. Idempotent.

        Returns:
            Whether it was there. Of several callers at once exactly one is told so on a local
            disk; object stores don't say, so that there it is looked at just before.
        """
        with self._translated("delete", entry.key):
            filesystem, path = self._connection.filesystem, self._connection.path(entry.key)
            if entry.upload is not None:
                bucket, key, _ = filesystem.split_path(path)
                return _found(lambda: filesystem.abort_mpu(bucket, key, entry.upload))
            if self._connection.is_local:
                return _found(Path(path).unlink)
            there = listing.description(self._connection, entry.key) is not None
            return _found(lambda: filesystem.rm_file(path)) and there

    def _one_request(self) -> Mapping[str, Any]:
        # For parallel reads of large objects s3fs would look at the size first. What is read as a
        # whole here is small.
        return {"max_concurrency": 1} if self._connection.is_s3 else {}

    def _read(self, key: str) -> bytes:
        path = self._connection.path(key)
        data: bytes = self._connection.filesystem.cat_file(path, **self._one_request())
        return data

    def _require_file(self, key: str) -> None:
        """Refuses a pipe or a device in a local folder, for which a reader would wait for ever."""
        if self._connection.is_local:
            mode = Path(self._connection.path(key)).stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise StoreRefusedError(
                    f"{self.url}/{key} is neither a file nor a folder; remove it"
                )

    def _local(self, key: str) -> Path:
        path = Path(self._connection.path(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def _translated(self, verb: str, key: str, *, missing_ok: bool = True) -> Iterator[None]:
        connection = self._connection
        with translated(
            connection.url, verb, key, is_local=connection.is_local, missing_ok=missing_ok
        ):
            try:
                yield
            except FileNotFoundError:
                listing.require_a_way_to(connection, key)
                raise


def read_listed(store: ObjectStore, keys: Iterable[str]) -> dict[str, bytes]:
    """As `ObjectStore.read_many`, of keys that a listing has shown.

    Raises:
        StoreError: One could not be read, or is gone: since, or before a listing that is late.
    """
    try:
        return store.read_many(keys)
    except FileNotFoundError as error:
        raise StoreError(
            f"{error} is listed, but not there; run the same command again, and if it stays so, "
            "bring it back"
        ) from None


def probe_key(folder: str = "") -> str:
    """A key for what is written to learn something, and removed; if it stays, a temporary."""
    return f"{folder}/.probe-{secrets.token_hex(8)}{PART_SUFFIX}".lstrip("/")


def _found(removal: Callable[[], object]) -> bool:
    """Remove something; whether it was there."""

    def remove() -> bool:
        removal()
        return True

    return or_none(remove) is True
