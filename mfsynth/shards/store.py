"""A run's storage: one local folder or one fsspec URL, and the few operations we trust.

The protocol needs three things of a store: a put that is whole or absent, a create that fails
if the key exists, and a listing. Everything here is one of those or a read.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from mfsynth.config.credentials import secrets_in, without_credentials
from mfsynth.errors import MfsynthError
from mfsynth.shards import atomic_io
from mfsynth.shards.layout import COMMITS_FOLDER, PART_SUFFIX, new_attempt


class StoreError(MfsynthError):
    """The store refused or failed an operation; trying again later may help."""


class StoreFullError(StoreError):
    """No space is left in the store; trying again helps once there is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored object in a listing.

    Attributes:
        key: Key relative to the root of the run.
        size: Bytes.
        modified: When it was last written (UTC), or None where the store doesn't say.
    """

    key: str
    size: int
    modified: datetime | None


class RunStore:
    """Objects of one run, by key. Open one with `RunStore.open`.

    It can be pickled and sent to other machines; remote connections are made again there and
    in forked processes. Messages never show the credentials of the URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._process = -1
        self._fs: Any = None
        self._root = ""
        self._connect()

    @classmethod
    def open(cls, url: str | os.PathLike[str]) -> "RunStore":
        """The store at a local path or fsspec URL. Creates and checks nothing there.

        Raises:
            MfsynthError: No fsspec implementation for the URL, or its package is missing.
        """
        return cls(os.fspath(url))

    def __repr__(self) -> str:
        return f"RunStore({self.url!r})"

    def __reduce__(self) -> tuple[type["RunStore"], tuple[str]]:
        return RunStore, (self._url,)

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
        with self._failing("read", key, missing_ok=False):
            data: bytes = self._connect().cat_file(self._path(key))
            return data

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Whole objects, side by side where the store can; raises as `read_bytes` does."""
        wanted = [*keys]
        if len(wanted) < 2 or self.local_root is not None:
            return {key: self.read_bytes(key) for key in wanted}
        with self._failing("read", wanted[0], missing_ok=False):
            paths = {self._path(key): key for key in wanted}
            found: Mapping[str, bytes] = self._connect().cat([*paths])
            return {paths[self._absolute(path)]: data for path, data in found.items()}

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` of an object; fewer if it ends before.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: It could not be read.
        """
        with self._failing("read", key, missing_ok=False):
            data: bytes = self._connect().cat_file(self._path(key), start=start, end=start + length)
            return data

    @contextlib.contextmanager
    def local_copy(self, key: str) -> Iterator[Path]:
        """A local file with the object's bytes: the object itself in a local run, else a copy
        that is removed afterwards. Raises as `read_bytes` does.
        """
        if self.local_root is not None:
            with self._failing("read", key, missing_ok=False):
                path = self._local(key, create_folder=False)
                path.stat()
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="mfsynth-") as folder:
            copy = Path(folder) / Path(key).name
            with self._failing("read", key, missing_ok=False):
                self._connect().get_file(self._path(key), str(copy))
            yield copy

    def put_file(self, local_path: Path, key: str) -> None:
        """Upload a local file to `key`, over what is there.

        Visible: when it returns, whole; a kill before that leaves nothing at `key`.
        Idempotent: a retry after a lost acknowledgement writes the same bytes again.

        Raises:
            StoreFullError: No space is left.
            StoreError: It could not be written.
        """
        with self._failing("write", key):
            if self.local_root is not None:
                atomic_io.copy(local_path, self._local(key))
            else:
                self._connect().put_file(str(local_path), self._path(key))

    def put_bytes(self, key: str, data: bytes) -> None:
        """Publish `data` at `key`, over what is there: as `put_file`, for documents."""
        with self._failing("write", key):
            if self.local_root is not None:
                atomic_io.replace(self._local(key), data)
            else:
                self._connect().pipe_file(self._path(key), data)

    def create_if_absent(self, key: str, data: bytes) -> bool:
        """Publish `data` at `key` unless something is there; True if this call did.

        Visible: when it returns, whole; of all callers exactly one gets True (on a store that
        honours conditional writes: see `honours_create_if_absent`).
        A retry after a lost acknowledgement gets False: read the key to tell whose it is.

        Raises:
            StoreFullError: No space is left.
            StoreError: It could not be written.
        """
        with self._failing("create", key):
            if self.local_root is not None:
                return atomic_io.create_if_absent(self._local(key), data)
            try:
                self._connect().pipe_file(self._path(key), data, mode="create")
            except Exception as error:
                if _says_it_exists(error):
                    return False
                raise
            return True

    def honours_create_if_absent(self) -> bool:
        """Whether a second create of a key is refused here. Some object stores ignore the
        condition, and there only one driver at a time may commit.

        Writes and removes a probe; leaves nothing behind.
        """
        key = f"{COMMITS_FOLDER}/.probe-{new_attempt()}{PART_SUFFIX}"
        try:
            return self.create_if_absent(key, b"1") and not self.create_if_absent(key, b"2")
        finally:
            self.delete(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of an object, or None if there is none at `key`."""
        with self._failing("look at", key):
            filesystem = self._connect()
            filesystem.invalidate_cache()
            try:
                info = filesystem.info(self._path(key))
            except FileNotFoundError:
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def list(self, prefix: str = "") -> Sequence[str]:
        """Sorted keys below a folder (`""` = all); includes temporaries of killed writers."""
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> Sequence[Entry]:
        """Sorted listing below a folder, one request a thousand objects on object stores."""
        with self._failing("list", prefix):
            filesystem = self._connect()
            filesystem.invalidate_cache()
            path = self._path(prefix) if prefix else self._root
            try:
                found: Mapping[str, Mapping[str, Any]] = filesystem.find(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return self._entries(found.values())

    def top_level(self) -> Sequence[Entry]:
        """Sorted listing of the objects that lie in no folder of the run."""
        with self._failing("list", ""):
            filesystem = self._connect()
            filesystem.invalidate_cache()
            try:
                return self._entries(filesystem.ls(self._root, detail=True))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def any_key(self, *, but: Callable[[str], bool]) -> str | None:
        """Some key that `but` doesn't hold for, or None; looks no further than it has to."""
        with self._failing("list", ""):
            filesystem = self._connect()
            filesystem.invalidate_cache()
            for folder, _, files in filesystem.walk(self._root):
                for name in sorted(files):
                    path = self._absolute(f"{folder}/{name}")
                    if not but(key := path[len(self._root) + 1 :]):
                        return key
            return None

    def delete(self, key: str) -> None:
        """Remove an object. Idempotent: nothing at `key` is no error."""
        with self._failing("delete", key), contextlib.suppress(FileNotFoundError):
            self._connect().rm_file(self._path(key))

    def _connect(self) -> Any:
        # fsspec's async implementations refuse to work in a forked child of the process that
        # made them; a new process gets its own instance.
        if self._process != os.getpid():
            try:
                self._fs, root = fsspec.core.url_to_fs(self._url)
            except ImportError as error:
                raise MfsynthError(f"{self.url}: {error}; install it with pip") from error
            except ValueError as error:
                raise MfsynthError(
                    f"{self.url}: not a local path or a URL that fsspec can open "
                    f"({self._scrubbed(error)})"
                ) from None
            self._root = root.rstrip("/")
            self._process = os.getpid()
        return self._fs

    def _entries(self, found: Iterable[Mapping[str, Any]]) -> Sequence[Entry]:
        entries = []
        for info in found:
            absolute = self._absolute(info["name"])
            if info.get("type", "file") == "file" and absolute.startswith(f"{self._root}/"):
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

    @contextlib.contextmanager
    def _failing(self, verb: str, key: str, *, missing_ok: bool = True) -> Iterator[None]:
        try:
            yield
        except MfsynthError:
            raise
        # Exception, not OSError: every fsspec implementation has an exception tree of its own
        # (botocore.BotoCoreError, aiohttp.ClientError, google.api_core...), with no common
        # ancestor. KeyboardInterrupt and SystemExit are not caught.
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not missing_ok:
                raise FileNotFoundError(f"{self.url}/{key}") from None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFullError(
                    f"no space left in {self.url} to {verb} {key}; free some, or give another "
                    "output, and run the same command again: committed shards are kept"
                ) from error
            where = f"{self.url}/{key}".rstrip("/")
            message = f"can't {verb} {where}: {self._scrubbed(error)}"
            # A chained cause would print the credentials again.
            raise StoreError(message) from (None if secrets_in(self._url) else error)

    def _scrubbed(self, error: BaseException) -> str:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(without_credentials(str(reason)).split())
        for secret in secrets_in(self._url):
            reason = reason.replace(secret, "***")
        return reason


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _says_it_exists(error: BaseException) -> bool:
    if isinstance(error, FileExistsError):
        return True
    # s3fs only knows the answer of AWS; other S3 stores leave out the field it looks at.
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")
        cause = cause.__cause__ or cause.__context__
    return False


def _modified(info: Mapping[str, Any]) -> datetime | None:
    for name in ("LastModified", "mtime", "modified", "last_modified", "created"):
        when = info.get(name)
        if isinstance(when, datetime):
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        if isinstance(when, (int, float)):
            return datetime.fromtimestamp(when, UTC)
    return None
