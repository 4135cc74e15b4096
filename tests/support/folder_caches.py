"""What a machine that mounts a shared folder over the network has in its caches.

Clients of NFS and its like read a key freshly, but remember for a while what a folder listed, and
that a name was not there. What they write themselves they see at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from mfsynth.storage.listing import Entry
from mfsynth.storage.store import ObjectStore


class FolderCaches:
    """The caches of one machine; they last until `expire`, however long that is."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._listings: dict[tuple[str, str], dict[str, Entry]] = {}
        self._absent: set[tuple[str, str]] = set()

    def expire(self) -> None:
        """Forget everything: what others did meanwhile is seen from now on."""
        with self._lock:
            self._listings.clear()
            self._absent.clear()

    @contextmanager
    def between(self) -> Iterator[None]:
        """Have them between this process and every local store inside of the `with`."""
        real = {name: getattr(ObjectStore, name) for name in ("entries", "size", "read_bytes")}

        def entries(store: ObjectStore, prefix: str = "") -> list[Entry]:
            with self._lock:
                place = store.location, prefix
                if place not in self._listings:
                    found = real["entries"](store, prefix)
                    self._listings[place] = {entry.key: entry for entry in found}
                return [self._listings[place][key] for key in sorted(self._listings[place])]

        def top_level(store: ObjectStore) -> list[Entry]:
            return [entry for entry in entries(store) if "/" not in entry.key]

        def any_key(store: ObjectStore, *, ignoring: Callable[[str], bool]) -> str | None:
            return next((e.key for e in entries(store) if not ignoring(e.key)), None)

        def size(store: ObjectStore, key: str) -> int | None:
            with self._lock:
                if (store.location, key) in self._absent:
                    return None
                found: int | None = real["size"](store, key)
                if found is None:
                    self._absent.add((store.location, key))
                return found

        def read_bytes(store: ObjectStore, key: str) -> bytes:
            if size(store, key) is None:
                raise FileNotFoundError(f"{store.url}/{key}")
            data: bytes = real["read_bytes"](store, key)
            return data

        def writing(name: str) -> Any:
            write = getattr(ObjectStore, name)

            def write_and_see(store: ObjectStore, *given: Any) -> Any:
                done = write(store, *given)
                key = given[1] if name == "put_file" else getattr(given[0], "key", given[0])
                with self._lock:
                    # Also of a create that met another's: then the server has told.
                    self._absent.discard((store.location, key))
                    now = real["size"](store, key)
                    for (location, prefix), listed in self._listings.items():
                        if location == store.location and f"{key}/".startswith(prefix):
                            listed.pop(key, None)
                            if now is not None:
                                listed[key] = Entry(key, now, datetime.now(UTC))
                return done

            return write_and_see

        names = ("put_file", "put_bytes", "create_if_absent", "delete", "discard")
        changed = {name: writing(name) for name in names}
        changed |= {"entries": entries, "top_level": top_level, "any_key": any_key}
        changed |= {"size": size, "read_bytes": read_bytes}
        with patch.multiple(ObjectStore, **changed):
            yield
