"""A run's storage: one local folder or one fsspec URL, and the few operations we trust.

The protocol needs three things of a store: a put that is whole or absent, a create that fails
if the key exists, and a listing. Everything here is one of those or a read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from mfsynth.errors import MfsynthError
from mfsynth.storage import atomic
from mfsynth.storage.atomic import PART_SUFFIX
from mfsynth.storage.credentials import secrets_in, without_credentials

_T = TypeVar("_T")

_S3 = ("s3", "s3a")
# A reader of many commits waits for round trips, and botocore has 10 connections by default.
_S3_CONNECTIONS = 128
# botocore gives a request five attempts, and s3fs a throttled one five times as many. That is
# enough for one request, but not for each of thousands, nor for what botocore does not try again.
_ATTEMPTS = 4
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
_SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class StoreError(MfsynthError):
    """The store refused or failed an operation; trying again later may help."""


class StoreFullError(StoreError):
    """No space is left in the store; trying again helps once there is."""


class StoreRefusedError(StoreError):
    """The store does not take our credentials, or has no such bucket: trying again is of no use."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored object in a listing.

    Attributes:
        key: Key relative to the root of the run.
        size: Bytes.
        modified: When it was last written (UTC), or None where the store doesn't say.
        upload: Id of a multipart upload to `key` that was begun and not completed; None for an
            object.
    """

    key: str
    size: int
    modified: datetime | None
    upload: str | None = None


class ObjectStore:
    """Objects of one run, by key. Open one with `ObjectStore.open`.

    It can be pickled and sent to other machines; remote connections are made again there and
    in forked processes. Throttling and errors of an object store are met with patience, every
    operation being one that may be repeated. Messages never show credentials.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._process = -1
        self._fs: Any = None
        self._root = ""
        self._connect()

    @classmethod
    def open(cls, url: str | os.PathLike[str]) -> ObjectStore:
        """The store at a local path or fsspec URL. Creates and checks nothing there.

        Raises:
            MfsynthError: No fsspec implementation for the URL, or its package is missing.
        """
        return cls(os.fspath(url))

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str]]:
        return ObjectStore, (self._url,)

    @property
    def url(self) -> str:
        """The URL to show people: without user, password and query."""
        return without_credentials(self._url)

    @property
    def local_root(self) -> Path | None:
        """The folder of a local run, None for any other store."""
        return Path(self._root) if "file" in _protocols(self._connect()) else None

    def read_bytes(self, key: str) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: It could not be read.
        """
        with self._translate_errors("read", key, missing_ok=False):
            return self._with_retries(lambda: self._read(key))

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Whole objects, side by side where the store can; raises as `read_bytes` does."""
        wanted = [*keys]
        if len(wanted) < 2 or self.local_root is not None:
            return {key: self.read_bytes(key) for key in wanted}
        with self._translate_errors("read", wanted[0], missing_ok=False):
            filesystem = self._connect()
            found: Mapping[str, bytes | Exception] = filesystem.cat(
                [self._path(key) for key in wanted], on_error="return", **self._one_request()
            )
        result = {}
        for path, data in found.items():
            key = self._absolute(path)[len(self._root) + 1 :]
            # What failed is read again by itself, so that one error costs one request.
            result[key] = data if isinstance(data, bytes) else self.read_bytes(key)
        return result

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` of an object; fewer if it ends before.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: It could not be read.
        """
        with self._translate_errors("read", key, missing_ok=False):
            path, end = self._path(key), start + length
            return self._with_retries(lambda: self._connect().cat_file(path, start=start, end=end))

    @contextlib.contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        """A local file with the object's bytes; raises as `read_bytes` does.

        It is the object itself in a local folder, else a copy that is removed afterwards.
        """
        if self.local_root is not None:
            with self._translate_errors("read", key, missing_ok=False):
                path = self._local(key, create_folder=False)
                path.stat()
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="mfsynth-") as folder:
            copy = Path(folder) / Path(key).name
            with self._translate_errors("read", key, missing_ok=False):
                self._with_retries(lambda: self._connect().get_file(self._path(key), str(copy)))
            yield copy

    def put_file(self, local_path: Path, key: str) -> None:
        """Upload a local file to `key`, over what is there.

        Visible: when it returns, whole; a kill before that leaves nothing at `key`.
        Idempotent: a retry after a lost acknowledgement writes the same bytes again.

        Raises:
            StoreFullError: No space is left.
            StoreError: It could not be written.
        """
        with self._translate_errors("write", key):
            if self.local_root is not None:
                atomic.copy(local_path, self._local(key))
            else:
                path = self._path(key)
                self._with_retries(lambda: self._connect().put_file(str(local_path), path))

    def put_bytes(self, key: str, data: bytes) -> None:
        """Publish `data` at `key`, over what is there: as `put_file`, for documents."""
        with self._translate_errors("write", key):
            if self.local_root is not None:
                atomic.replace(self._local(key), data)
            else:
                self._with_retries(lambda: self._connect().pipe_file(self._path(key), data))

    def create_if_absent(self, key: str, data: bytes) -> bool:
        """Publish `data` at `key` unless something is there; True if this call did.

        Visible: when it returns, whole; of all callers exactly one gets True (on a store that
        honours conditional writes: see `honours_create_if_absent`).
        A retry after a lost acknowledgement gets False: read the key to tell whose it is.

        Raises:
            StoreFullError: No space is left.
            StoreError: It could not be written.
        """
        with self._translate_errors("create", key):
            if self.local_root is not None:
                return atomic.create_if_absent(self._local(key), data)
            path = self._path(key)
            try:
                self._with_retries(lambda: self._connect().pipe_file(path, data, mode="create"))
            except Exception as error:
                if _says_it_exists(error):
                    return False
                raise
            return True

    def honours_create_if_absent(self) -> bool:
        """Whether a second create of a key is refused here.

        Some object stores ignore the condition, and there only one driver at a time may commit.
        Writes and removes a probe; leaves nothing behind.
        """
        key = f".probe-{secrets.token_hex(8)}{PART_SUFFIX}"
        try:
            # What is stored tells, where the answers may be those to a retry.
            self.create_if_absent(key, b"1")
            self.create_if_absent(key, b"2")
            return self.read_bytes(key) == b"1"
        finally:
            self.delete(key)

    def clock(self) -> datetime | None:
        """What time it is to the store (UTC), or None if it doesn't date its objects.

        Writes and removes a probe; leaves nothing behind.
        """
        key = f".clock-{secrets.token_hex(8)}{PART_SUFFIX}"
        try:
            self.put_bytes(key, b"1")
            with self._translate_errors("look at", key):
                return _modified(self._with_retries(lambda: self._uncached().info(self._path(key))))
        finally:
            self.delete(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of an object, or None if there is none at `key`."""
        with self._translate_errors("look at", key):
            info = self._or_none(lambda: self._uncached().info(self._path(key)))
            return int(info["size"]) if info and info["type"] == "file" else None

    def list(self, prefix: str = "") -> Sequence[str]:
        """Sorted keys below a folder (`""` = all); includes temporaries of killed writers."""
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> Sequence[Entry]:
        """Sorted listing below a folder, one request a thousand objects on object stores.

        It is whole: a folder that can't be read is an error, never an empty one.
        """
        with self._translate_errors("list", prefix):
            path = self._path(prefix) if prefix else self._root
            if not self._connect().async_impl:
                return self._entries(self._walk(path))
            found = self._or_none(lambda: self._uncached().find(path, detail=True))
            return self._entries((found or {}).values())

    def top_level(self) -> Sequence[Entry]:
        """Sorted listing of the objects that lie in no folder of the run."""
        with self._translate_errors("list", ""):
            return self._entries(self._children(self._root))

    def any_key(self, *, ignoring: Callable[[str], bool]) -> str | None:
        """Some key that `ignoring` doesn't hold for, or None; looks no further than it has to."""
        with self._translate_errors("list", ""):
            keys = (entry.key for info in self._walk(self._root) for entry in self._entries([info]))
            return next((key for key in keys if not ignoring(key)), None)

    def unfinished_uploads(self) -> Sequence[Entry]:
        """Multipart uploads of killed writers, which no listing of objects shows but S3 bills.

        Other stores forget them by themselves.
        """
        if not self._is_s3():
            return []
        with self._translate_errors("list the unfinished uploads of", ""):
            bucket, folder, _ = self._connect().split_path(f"{self._root}/")
            question: dict[str, Any] = {"Bucket": bucket, "Prefix": folder}
            entries = []
            while True:
                page = self._with_retries(
                    lambda: self._connect().call_s3("list_multipart_uploads", **question)
                )
                for upload in page.get("Uploads", []):
                    key = upload["Key"][len(folder) :]
                    entries.append(Entry(key, 0, upload["Initiated"], upload["UploadId"]))
                if not page.get("IsTruncated"):
                    return entries
                question["KeyMarker"] = page["NextKeyMarker"]
                question["UploadIdMarker"] = page["NextUploadIdMarker"]

    def delete(self, key: str) -> None:
        """Remove an object. Idempotent: nothing at `key` is no error."""
        with self._translate_errors("delete", key):
            self._or_none(lambda: self._connect().rm_file(self._path(key)))

    def discard(self, entry: Entry) -> None:
        """Remove what a listing showed: an object, or an unfinished upload. Idempotent."""
        if entry.upload is None:
            return self.delete(entry.key)
        with self._translate_errors("abort an upload to", entry.key):
            bucket, key, _ = self._connect().split_path(self._path(entry.key))
            self._or_none(lambda: self._connect().abort_mpu(bucket, key, entry.upload))

    def _connect(self) -> Any:
        # fsspec's async implementations refuse to work in a forked child of the process that
        # made them; a new process gets its own instance.
        if self._process != os.getpid():
            try:
                self._fs, root = fsspec.core.url_to_fs(self._url, **_options(self._url))
            except ImportError as error:
                extra = _EXTRAS.get(fsspec.utils.get_protocol(self._url))
                remedy = f'pip install "mfsynth[{extra}]"' if extra else "install it with pip"
                raise MfsynthError(f"{self.url}: {error}; {remedy}") from error
            except ValueError as error:
                raise MfsynthError(
                    f"{self.url}: not a local path or a URL that fsspec can open "
                    f"({self._redacted(error)})"
                ) from None
            self._root = root.rstrip("/")
            self._process = os.getpid()
        return self._fs

    def _uncached(self) -> Any:
        filesystem = self._connect()
        filesystem.invalidate_cache()
        return filesystem

    def _is_s3(self) -> bool:
        return any(protocol in _S3 for protocol in _protocols(self._connect()))

    def _one_request(self) -> Mapping[str, Any]:
        # For parallel reads of large objects s3fs would look at the size first. What is read as a
        # whole here is small.
        return {"max_concurrency": 1} if self._is_s3() else {}

    def _read(self, key: str) -> bytes:
        data: bytes = self._connect().cat_file(self._path(key), **self._one_request())
        return data

    def _children(self, path: str) -> Sequence[Mapping[str, Any]]:
        return self._or_none(lambda: self._uncached().ls(path, detail=True)) or []

    def _walk(self, path: str) -> Iterator[Mapping[str, Any]]:
        # fsspec's own walk takes a folder that it can't read for an empty one.
        for info in (children := self._children(path)):
            if info["type"] != "directory":
                yield info
        for info in children:
            if info["type"] == "directory" and info["name"].rstrip("/") != path.rstrip("/"):
                yield from self._walk(info["name"])

    def _entries(self, found: Iterable[Mapping[str, Any]]) -> Sequence[Entry]:
        entries = []
        for info in found:
            absolute = self._absolute(info["name"])
            # Consoles of S3 show folders by empty objects whose names end in a slash.
            if (
                info.get("type", "file") == "file"
                and absolute.startswith(f"{self._root}/")
                and not absolute.endswith("/")
            ):
                key = absolute[len(self._root) + 1 :]
                entries.append(Entry(key, int(info.get("size") or 0), _modified(info)))
        return sorted(entries, key=lambda entry: entry.key)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _absolute(self, path: str) -> str:
        # Implementations differ in the leading slash of what they list.
        return path if path.startswith(self._root) else f"/{path}"

    def _local(self, key: str, *, create_folder: bool = True) -> Path:
        path = Path(self._path(key))
        if create_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _with_retries(self, operation: Callable[[], _T]) -> _T:
        for attempt in range(1, _ATTEMPTS):
            try:
                return operation()
            # As in `_translate_errors`: there is no common ancestor.
            except Exception as error:
                if not _may_pass(error):
                    raise
                time.sleep(2.0**attempt * random.uniform(0.1, 0.2))
        return operation()

    def _or_none(self, operation: Callable[[], _T]) -> _T | None:
        try:
            return self._with_retries(operation)
        except (FileNotFoundError, NotADirectoryError) as error:
            if _bucket_is_missing(error):
                raise
            return None

    @contextlib.contextmanager
    def _translate_errors(self, verb: str, key: str, *, missing_ok: bool = True) -> Iterator[None]:
        try:
            yield
        except MfsynthError:
            raise
        # Exception, not OSError: every fsspec implementation has an exception tree of its own
        # (botocore.BotoCoreError, aiohttp.ClientError, google.api_core...), with no common
        # ancestor. KeyboardInterrupt and SystemExit are not caught.
        except Exception as error:
            # A chained cause would print the credentials again.
            cause = None if secrets_in(self._url) or self._tells_secrets(error) else error
            if _bucket_is_missing(error):
                raise StoreRefusedError(
                    f"{self.url}: there is no such bucket; create it, or give another output"
                ) from cause
            if isinstance(error, FileNotFoundError) and not missing_ok:
                raise FileNotFoundError(f"{self.url}/{key}") from None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFullError(
                    f"no space left in {self.url} to {verb} {key}; free some, or give another "
                    "output, and run the same command again: committed shards are kept"
                ) from error
            where = f"{self.url}/{key}".rstrip("/")
            message = f"can't {verb} {where}: {self._redacted(error)}"
            if self.local_root is None and _is_refusal(error):
                raise StoreRefusedError(
                    f"{message}; renew the store's credentials or their rights, and run the "
                    "same command again: committed shards are kept"
                ) from cause
            raise StoreError(message) from cause

    def _secrets(self) -> Sequence[str]:
        found = (os.environ.get(name, "") for name in _SECRET_VARIABLES)
        return [*secrets_in(self._url), *filter(None, found)]

    def _tells_secrets(self, error: BaseException) -> bool:
        return any(secret in str(link) for link in _chain(error) for secret in self._secrets())

    def _redacted(self, error: BaseException) -> str:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(without_credentials(str(reason)).split())
        for secret in self._secrets():
            reason = reason.replace(secret, "***")
        return reason


def _options(url: str) -> Mapping[str, Any]:
    protocol = fsspec.utils.get_protocol(url)
    if protocol not in _S3:
        return {}
    given = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    return {"config_kwargs": {"max_pool_connections": _S3_CONNECTIONS, **given}}


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _s3_answer(error: BaseException) -> tuple[str, int]:
    """Code and HTTP status of what an S3 store answered; ("", 0) if it didn't.

    s3fs turns answers into Python's exceptions, but knows those of AWS only, and loses the status.
    """
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0


def _says_it_exists(error: BaseException) -> bool:
    return isinstance(error, FileExistsError) or _s3_answer(error)[0] in (
        "PreconditionFailed",
        "412",
    )


def _may_pass(error: BaseException) -> bool:
    # 409: two conditional writes met, and S3 wants the loser to ask again. Connections that
    # break were tried again often enough below us; GCS and Azure's packages do all of it.
    status = _s3_answer(error)[1]
    return status in (409, 429) or status >= 500


def _bucket_is_missing(error: BaseException) -> bool:
    return _s3_answer(error)[0] == "NoSuchBucket"


def _is_refusal(error: BaseException) -> bool:
    # A HEAD request is refused without a reason: 400 is S3's status for expired credentials.
    codes = ("InvalidToken", "TokenRefreshRequired", "ExpiredToken", "400")
    return isinstance(error, PermissionError) or _s3_answer(error)[0] in codes


def _modified(info: Mapping[str, Any]) -> datetime | None:
    for name in ("LastModified", "mtime", "modified", "last_modified", "created"):
        when = info.get(name)
        if isinstance(when, datetime):
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        if isinstance(when, (int, float)):
            return datetime.fromtimestamp(when, UTC)
    return None
