"""Objects by key: whole or absent, whatever stores and disks do."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from required import require

from mfsynth.errors import MfsynthError
from mfsynth.storage.errors import StoreError, StoreFullError
from mfsynth.storage.protocols import PROTOCOLS_VARIABLE
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def any_store(place):
    return ObjectStore.open(f"{place}/run")


def test_what_was_put_is_read_back(any_store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(range(200)))
    any_store.put_file(source, "shards/a.tar")
    any_store.put_bytes("README.md", b"read me")
    assert any_store.read_bytes("shards/a.tar") == bytes(range(200))
    assert any_store.read_range("shards/a.tar", 10, 5) == bytes(range(10, 15))
    assert any_store.read_range("shards/a.tar", 195, 50) == bytes(range(195, 200))
    with any_store.local_copy("shards/a.tar") as path:
        assert path.read_bytes() == bytes(range(200))
    assert any_store.read_many(["README.md", "shards/a.tar"]) == {
        "README.md": b"read me",
        "shards/a.tar": bytes(range(200)),
    }
    assert any_store.size("shards/a.tar") == 200
    assert list(any_store.list()) == ["README.md", "shards/a.tar"]
    assert list(any_store.list("shards")) == ["shards/a.tar"]
    assert [entry.key for entry in any_store.top_level()] == ["README.md"]


def test_a_put_replaces_and_a_delete_may_be_repeated(any_store):
    any_store.put_bytes("a", b"1")
    any_store.put_bytes("a", b"22")
    assert any_store.read_bytes("a") == b"22"
    any_store.delete("a")
    any_store.delete("a")
    assert not any_store.exists("a")


def test_the_first_create_wins_and_keeps_its_bytes(any_store):
    assert any_store.create_if_absent("_commits/000000.json", b"first")
    assert not any_store.create_if_absent("_commits/000000.json", b"second")
    assert any_store.read_bytes("_commits/000000.json") == b"first"


def test_of_many_creates_at_once_exactly_one_wins(any_store):
    values = [f"writer {number}".encode() * 1000 for number in range(8)]
    for key in ("_commits/000001.json", "_commits/000002.json"):
        with ThreadPoolExecutor(len(values)) as pool:
            won = [*pool.map(lambda value, key=key: any_store.create_if_absent(key, value), values)]
        assert won.count(True) == 1
        assert any_store.read_bytes(key) == values[won.index(True)]


def test_what_was_written_is_listed_at_once_and_what_was_deleted_is_not(any_store):
    for number in range(3):
        any_store.put_bytes(f"shards/{number}", b"1")
        assert len(any_store.list("shards")) == number + 1
    any_store.delete("shards/1")
    assert [*any_store.list("shards")] == ["shards/0", "shards/2"]
    assert any_store.size("shards/1") is None


def test_the_clock_is_the_stores_own_and_leaves_nothing(any_store):
    assert abs(any_store.clock("folder") - datetime.now(UTC)) < timedelta(minutes=5)
    assert list(any_store.list()) == []


def test_the_probe_of_conditional_writes_leaves_nothing(any_store):
    assert any_store.honours_create_if_absent("folder")
    assert list(any_store.list()) == []


def test_an_absent_object_is_a_file_not_found(any_store):
    assert any_store.size("none") is None
    assert list(any_store.list("none")) == []
    with pytest.raises(FileNotFoundError):
        any_store.read_bytes("none")
    with pytest.raises(FileNotFoundError), any_store.local_copy("none"):
        pass


def test_a_listing_knows_when_things_were_written(any_store):
    any_store.put_bytes("shards/a", b"1")
    (entry,) = any_store.entries("shards")
    assert abs(entry.modified - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_store_survives_pickling(any_store):
    any_store.put_bytes("a", b"1")
    assert pickle.loads(pickle.dumps(any_store)).read_bytes("a") == b"1"


def test_a_write_that_fails_leaves_nothing_and_what_was_there_stays(store, monkeypatch):
    store.put_bytes("README.md", b"old")

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"can't write .*README.md: Input/output error"):
        store.put_bytes("README.md", b"new")
    with pytest.raises(StoreError):
        store.create_if_absent("run.json", b"new")
    monkeypatch.undo()
    assert list(store.list()) == ["README.md"]
    assert store.read_bytes("README.md") == b"old"


def test_a_full_disk_is_one_clear_line(store, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreFullError, match="what was stored before is kept") as info:
        store.create_if_absent("_commits/000000.json", b"x")
    assert "\n" not in str(info.value)
    monkeypatch.undo()
    assert list(store.list()) == []


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        require("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_keeps_what_was_whole(small_disk, tmp_path):
    store = ObjectStore.open(small_disk / "run")
    store.put_bytes("run.json", b"{}")
    large = tmp_path / "large"
    large.write_bytes(b"x" * 200_000)
    with pytest.raises(StoreFullError, match="no space left"):
        store.put_file(large, "shards/a.tar")
    assert list(store.list()) == ["run.json"]


def test_a_full_disk_for_copies_is_not_taken_for_a_full_store(small_disk, monkeypatch):
    store = ObjectStore.open("memory://full/run")
    store.put_bytes("shards/a.tar", b"x" * 200_000)
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with (
        pytest.raises(StoreFullError, match=f"no space left in {small_disk} .*set TMPDIR"),
        store.local_copy("shards/a.tar"),
    ):
        pass
    assert not any(small_disk.iterdir())


def test_an_output_below_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("text")
    store = ObjectStore.open(tmp_path / "file" / "run")
    with pytest.raises(StoreError, match=r"can't create .*run.json: ") as info:
        store.create_if_absent("run.json", b"{}")
    assert "\n" not in str(info.value)


def test_an_unwritable_output_is_one_clear_line(store, monkeypatch):
    def fail(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(StoreError, match=r"can't create .*run.json: Permission denied"):
        store.create_if_absent("run.json", b"{}")


def test_an_unknown_protocol_is_one_clear_line(monkeypatch):
    monkeypatch.setenv(PROTOCOLS_VARIABLE, "s4")
    with pytest.raises(MfsynthError, match=r"s4://.*not a local path or a URL") as info:
        ObjectStore.open("s4://key:secret@bucket/run")
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("gs://bucket/run", r'pip install "mfsynth\[gcs\]"'),
        ("abfs://container@account/run", r'pip install "mfsynth\[azure\]"'),
        ("oss://bucket/run", "install it with pip"),
    ],
)
def test_a_missing_package_is_one_clear_line(monkeypatch, url, remedy):
    monkeypatch.setenv(PROTOCOLS_VARIABLE, "oss")
    for package in ("gcsfs", "adlfs", "ossfs"):
        monkeypatch.setitem(sys.modules, package, None)
    # Another test may have opened one.
    for protocol in ("gs", "abfs"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(MfsynthError, match=remedy) as info:
        ObjectStore.open(url)
    assert "\n" not in str(info.value)


def test_a_folder_that_can_not_be_read_is_never_an_empty_one(store, monkeypatch):
    store.put_bytes("_commits/000000.json", b"{}")

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "scandir", fail)
    for list_it in (
        lambda: store.entries("_commits"),
        lambda: store.top_level(),
        lambda: store.any_key(ignoring=lambda key: False),
    ):
        with pytest.raises(StoreError, match=r"can't list .*: Input/output error"):
            list_it()


class _Failing(fsspec.AbstractFileSystem):
    """A remote store whose every answer repeats the URL it was asked for."""

    protocol = "failing"
    url = "failing://user:hunter2@host/bucket?token=abracadabra"

    @classmethod
    def _strip_protocol(cls, path):
        return "bucket"

    def _fail(self, *args, **kwargs):
        raise RuntimeError(f"401 for {self.url}\nuser hunter2 is not allowed, abracadabra")

    cat_file = info = find = pipe_file = put_file = rm_file = walk = _fail


def test_credentials_in_a_url_are_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv(PROTOCOLS_VARIABLE, "failing")
    fsspec.register_implementation("failing", _Failing, clobber=True)
    store = ObjectStore.open(_Failing.url)
    (tmp_path / "file").write_bytes(b"")
    attempts = [
        lambda: store.read_bytes("a"),
        lambda: store.put_bytes("a", b""),
        lambda: store.put_file(tmp_path / "file", "a"),
        lambda: store.create_if_absent("a", b""),
        lambda: store.list(),
        lambda: store.size("a"),
        lambda: store.delete("a"),
        lambda: store.any_key(ignoring=lambda key: False),
    ]
    shown = [repr(store), store.url]
    for attempt in attempts:
        with pytest.raises(StoreError) as info:
            attempt()
        assert info.value.__cause__ is None
        shown.append(str(info.value))
    for text in shown:
        assert "failing://host/bucket" in text
        assert "hunter2" not in text
        assert "abracadabra" not in text
        assert "\n" not in text
