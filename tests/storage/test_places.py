"""A URL means one place, and what lies there is seen: no patterns, no links overlooked."""

from __future__ import annotations

import os
import pickle

import pytest

from mfsynth.errors import MfsynthError
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore
from mfsynth.storage.urls import where_sought


def test_a_relative_store_stays_where_it_is_when_the_working_directory_changes(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store = ObjectStore.open("out/run")
    store.put_bytes("a", b"1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pickled = pickle.dumps(ObjectStore.open("out/run"))
    monkeypatch.chdir(elsewhere)
    assert store.read_bytes("a") == b"1"
    assert pickle.loads(pickled).read_bytes("a") == b"1"
    store.put_bytes("b", b"2")
    assert (tmp_path / "out" / "run" / "b").read_bytes() == b"2"
    assert [*elsewhere.iterdir()] == []
    assert store.location == store.url == str(tmp_path / "out" / "run")


@pytest.mark.parametrize(
    "url",
    [
        "s3:/bucket/run",
        "s3:bucket/run",
        "s3//bucket/run",
        "S3:/bucket/run",
        "gs:/bucket/run",
        "abfs:container/run",
        "https:/host/run",
        "file:run",
        "file:/tmp/run",
        "file://run",
        "s3://",
        "s3:///bucket/run",
        "://bucket/run",
        " s3://bucket/run",
        "out/s3://bucket/run",
        " s3:/bucket/run",
        '"s3:/bucket/run"',
        "\u00a0s3//bucket/run",
        " out/run",
        " /tmp/run",
        "'out/run'",
        "s3.//bucket/run",
        "s3;//bucket/run",
        "s3 //bucket/run",
        "s3n:bucket/run",
        "c:\\out\\run",
        "c:/out/run",
        "made-up:/bucket/run",
        "simplecache::s3://bucket/run",
        "memory::run",
        "s3://bucket/run?versionId=3",
        "abfs://container/run?versionid=3",
        "",
        " ",
        "out/a\nb",
    ],
)
def test_a_malformed_url_is_refused_and_never_a_folder(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MfsynthError) as info:
        ObjectStore.open(url)
    assert "\n" not in str(info.value)
    assert "give" in str(info.value) or "?versionId=" in str(info.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("path", ["run\\1", "run?", "data/run?/", "a[b]/run", "a:b/run", "a@b"])
def test_what_azures_package_takes_for_another_name_is_refused(path):
    for url in (f"abfs://container/{path}", f"az://c@account.dfs.core.windows.net/{path}"):
        with pytest.raises(MfsynthError, match="would take it for another place") as info:
            ObjectStore.open(url)
        assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "path",
    [
        *["./s3:/bucket/run", "out:2/run", "a::b/run", "data//run", "data.//run", "what?/run"],
        *["./~x/../run", "./ out/run", "s3.0/run", "s3/run", "my s3/run", "a\\b/run"],
    ],
)
def test_an_odd_path_is_a_path(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~x").mkdir()
    store = ObjectStore.open(path)
    store.put_bytes("a", b"1")
    assert (tmp_path / path / "a").read_bytes() == b"1"


ODD = "a[b]*?{c}/r[0-9]n ?x*"


def test_every_character_of_a_path_is_literal(place):
    store, sibling = (ObjectStore.open(f"{place}/runs/{name}") for name in (ODD, "abc/r5n x"))
    sibling.put_bytes("shards/s[1].tar", b"not ours")
    store.put_bytes("shards/s[1].tar", b"1")
    store.put_bytes("shards/s1.tar", b"22")
    store.put_bytes("*", b"333")
    assert store.read_many(["shards/s[1].tar", "*"]) == {"shards/s[1].tar": b"1", "*": b"333"}
    assert [*store.list("shards")] == ["shards/s1.tar", "shards/s[1].tar"]
    assert [*store.list()] == ["*", "shards/s1.tar", "shards/s[1].tar"]
    assert store.size("shards/s[1].tar") == 1
    assert not store.create_if_absent("*", b"")
    assert store.create_if_absent("?x", b"")
    store.delete("?x")
    store.delete("*")
    assert [*store.list("shards")] == ["shards/s1.tar", "shards/s[1].tar"]
    assert [*sibling.list()] == ["shards/s[1].tar"]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("run", "run", True),
        ("run", "./run/", True),
        ("run", "run/copy", True),
        ("link", "run/copy", True),
        ("run", "run-2", False),
        ("run", "memory://run", False),
        ("memory://a/run", "memory://a/run/shards", True),
        ("memory://a/run", "memory://a/run-2", False),
        ("s3://bucket", "s3a://bucket/run", True),
        ("s3://bucket/run", "s3://bucket-2/run", False),
        ("s3://bucket/run", "memory://bucket/run", False),
    ],
)
def test_stores_that_lie_in_each_other_overlap(tmp_path, monkeypatch, one, other, overlap):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    stores = ObjectStore.open(one), ObjectStore.open(other)
    assert stores[0].overlaps(stores[1]) is stores[1].overlaps(stores[0]) is overlap


@pytest.mark.parametrize("url", ["memory://b/what?/run", "s3://b/run?", "gs://b/what?/run"])
def test_a_question_mark_stays_in_what_is_printed_of_an_object_store(url):
    assert ObjectStore.open(url).url == url


def test_a_question_mark_stays_in_what_is_printed_of_a_local_path(tmp_path):
    for url in (f"{tmp_path}/what?/run", f"file://{tmp_path}/what?/run"):
        store = ObjectStore.open(url)
        assert store.url == f"{tmp_path}/what?/run"
        with pytest.raises(FileNotFoundError, match=r"what\?/run/none"):
            store.read_bytes("none")


@pytest.fixture
def linked(store, tmp_path):
    """A store whose files and folders are links to a cache, as model hubs lay them out."""
    cache = tmp_path / "cache"
    (cache / "folder").mkdir(parents=True)
    (cache / "blob").write_bytes(b"12345")
    (cache / "folder" / "b").write_bytes(b"1")
    store.put_bytes("shards/own", b"1")
    (store.local_root / "shards" / "a").symlink_to(cache / "blob")
    (store.local_root / "index").symlink_to(cache / "folder")
    return store


def test_a_link_is_what_it_points_to(linked):
    assert [*linked.list()] == ["index/b", "shards/a", "shards/own"]
    assert [*linked.list("index")] == ["index/b"]
    [a, _] = linked.entries("shards")
    assert (a.key, a.size) == ("shards/a", 5)
    assert linked.size("shards/a") == 5
    assert linked.read_bytes("shards/a") == b"12345"
    assert linked.any_key(ignoring=lambda key: "own" in key or "index" in key) == "shards/a"
    linked.delete("shards/a")
    assert linked.size("shards/a") is None
    assert not (linked.local_root / "shards" / "a").is_symlink()


def test_a_link_to_nothing_is_an_error_that_names_it(linked, tmp_path):
    (tmp_path / "cache" / "blob").unlink()
    (tmp_path / "cache" / "folder" / "b").unlink()
    (tmp_path / "cache" / "folder").rmdir()
    link, folder = linked.local_root / "shards" / "a", linked.local_root / "index"
    for look, named in (
        (lambda: linked.list("shards"), link),
        (lambda: linked.entries(), folder),
        (lambda: linked.any_key(ignoring=lambda key: True), folder),
        (lambda: linked.size("shards/a"), link),
        (lambda: linked.exists("shards/a"), link),
        (lambda: linked.read_bytes("shards/a"), link),
        (lambda: linked.read_many(["shards/own", "shards/a"]), link),
        (lambda: linked.read_range("shards/a", 0, 1), link),
        (lambda: linked.local_copy("shards/a").__enter__(), link),
        (lambda: linked.list("index"), folder),
        (lambda: linked.read_bytes("index/b"), folder),
    ):
        with pytest.raises(StoreError, match=f"^{named} is a link to what isn't there") as info:
            look()
        assert "\n" not in str(info.value)


def test_links_in_a_circle_are_an_error(store):
    store.put_bytes("shards/a", b"1")
    (store.local_root / "shards" / "loop").symlink_to(store.local_root / "shards")
    with pytest.raises(StoreError, match="is a link to a folder that it lies in"):
        store.list()


def test_what_is_neither_file_nor_folder_is_an_error_and_not_absent(store):
    store.put_bytes("_commits/000000.json", b"1")
    os.mkfifo(store.local_root / "_commits" / "000001.json")
    with pytest.raises(StoreError, match=r"000001\.json is neither a file nor a folder"):
        store.list("_commits")


def test_an_object_where_a_folder_should_be_is_an_error_and_not_empty(place):
    store = ObjectStore.open(f"{place}/run")
    store.put_bytes("_commits", b"1")
    with pytest.raises(StoreError, match=r"_commits"):
        store.list("_commits")


def test_of_those_who_discard_an_object_one_was_there(place):
    store = ObjectStore.open(f"{place}/run")
    store.put_bytes("a", b"1")
    [entry] = store.entries()
    assert [store.discard(entry) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("place", "is_said"),
    [
        ("desk.yaml", True),
        ("./a/b", True),
        ("../a", True),
        ("/a/b", False),
        ("~/a", False),
        ("s3://bucket/a", False),
        ("file:///a", False),
    ],
)
def test_errors_about_relative_paths_say_what_they_are_relative_to(
    place, is_said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert where_sought(place) == (f" in {tmp_path}" if is_said else "")
