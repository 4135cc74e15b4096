"""S3 with everything that goes wrong there, on a real endpoint with a harmful proxy before it."""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Callable

import fsspec
import pytest
import s3fs
import tiny_run
from s3_server import (
    CONFLICT,
    EXPIRED,
    INTERNAL_ERROR,
    SECRETS,
    SLOW_DOWN,
    Answer,
    Faults,
    some_fail,
)
from whole_lives import NO_GRACE, assert_like_an_undisturbed_run, operations, whole_life

from mfsynth.cli import main
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.drivers import note_progress
from mfsynth.shards.gc import garbage
from mfsynth.shards.reading import read_index
from mfsynth.shards.run_manifest import open_run, read_run
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.storage.errors import StoreError, StoreRefusedError
from mfsynth.storage.store import ObjectStore

MB = 2**20


@pytest.fixture
def run_url(s3) -> str:
    return f"{s3.new_bucket()}/run"


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of the smallest size that S3 takes, so that multipart uploads are small, too."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None: 5 * MB)


@pytest.fixture
def no_retries_below(monkeypatch):
    """Botocore gives a request one attempt, so that what is left is our own patience."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def first_of_each_kind() -> Callable[[str], bool]:
    seen: set[str] = set()

    def is_first(kind: str) -> bool:
        first = kind not in seen
        seen.add(kind)
        return first

    return is_first


def always(answer: Answer) -> Faults:
    return Faults(refuse=lambda kind: answer)


@pytest.mark.slow
def test_a_run_on_s3_with_every_fifth_request_failing_equals_one_without(s3, run_url, run_store):
    with s3.harmed_by(Faults(refuse=some_fail(0.2, seed=1))):
        store = whole_life(run_url)
    assert_like_an_undisturbed_run(store, run_store)


@pytest.mark.slow
def test_our_own_patience_is_enough_where_botocore_has_none(
    s3, run_url, run_store, no_retries_below
):
    with s3.harmed_by(Faults(refuse=some_fail(0.2, seed=2))):
        store = whole_life(run_url)
    assert_like_an_undisturbed_run(store, run_store)


@pytest.mark.slow
def test_a_run_whose_acknowledgements_are_lost_equals_one_without(s3, run_url, run_store):
    with s3.harmed_by(Faults(lose=first_of_each_kind())):
        store = whole_life(run_url)
    assert_like_an_undisturbed_run(store, run_store)


def test_a_lost_acknowledgement_of_a_commit_is_still_ours(s3, run_url):
    store = ObjectStore.open(run_url)
    first, second = tiny_run.upload_shard(store, 0), tiny_run.upload_shard(store, 0)
    with s3.harmed_by(Faults(lose=first_of_each_kind())) as requests:
        assert commit(store, first)
    assert requests["create"] == 2  # the second was refused: it met the first
    with s3.harmed_by(Faults(lose=first_of_each_kind())):
        assert not commit(store, second)
    assert read_commits(store) == {0: first}


def test_a_lost_acknowledgement_of_run_json_starts_the_run(s3, run_url):
    store, manifest = ObjectStore.open(run_url), tiny_run.make_manifest()
    with s3.harmed_by(Faults(lose=lambda kind: kind == "create" and s3.requests["create"] == 1)):
        assert open_run(store, manifest) == manifest
    assert read_run(store) == manifest


def test_conditional_writes_that_met_are_asked_again(s3, run_url):
    store = ObjectStore.open(run_url)
    receipt = tiny_run.upload_shard(store, 0)
    meet = Faults(refuse=lambda kind: CONFLICT if s3.requests["create"] == 1 else None)
    with s3.harmed_by(meet) as requests:
        assert commit(store, receipt)
    assert requests["create"] == 2


def test_conditional_writes_are_probed_truly_whatever_gets_lost(s3, run_url):
    store = ObjectStore.open(run_url)
    assert store.honours_create_if_absent("folder")
    with s3.harmed_by(Faults(lose=first_of_each_kind())):
        assert store.honours_create_if_absent("folder")
    with s3.harmed_by(Faults(ignore_conditions=True)):
        assert not store.honours_create_if_absent("folder")
    assert not store.list()


def test_a_store_that_ignores_the_condition_serves_one_driver(s3, run_url, run_store):
    with s3.harmed_by(Faults(ignore_conditions=True)):
        store = whole_life(run_url)
    assert_like_an_undisturbed_run(store, run_store)


def test_a_large_object_goes_up_in_parts(s3, run_url, small_parts, tmp_path):
    source = tmp_path / "large"
    source.write_bytes(bytes(range(256)) * (11 * MB // 256))
    store = ObjectStore.open(run_url)
    with s3.harmed_by(Faults()) as requests:
        store.put_file(source, "shards/large")
    assert requests == {"begin upload": 1, "part": 3, "complete upload": 1}
    with store.local_copy("shards/large") as copy:
        assert _sha256(copy) == _sha256(source)


@pytest.mark.parametrize("kind", ["begin upload", "part", "complete upload"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_disturbed_upload_in_parts_is_whole(s3, run_url, small_parts, tmp_path, kind, lost):
    source = tmp_path / "large"
    source.write_bytes(bytes(range(256)) * (11 * MB // 256))
    store, key = ObjectStore.open(run_url), layout.object_key("tar", tiny_run.RUN_ID, 0, "ab")
    open_run(store, tiny_run.make_manifest())
    note_progress(store, 0)
    first = first_of_each_kind()
    faults = (
        Faults(lose=lambda asked: asked == kind and first(asked))
        if lost
        else Faults(refuse=lambda asked: SLOW_DOWN if asked == kind and first(asked) else None)
    )
    with s3.harmed_by(faults):
        store.put_file(source, key)
    with store.local_copy(key) as copy:
        assert _sha256(copy) == _sha256(source)
    # An upload that was begun twice is in nobody's way, and is garbage.
    tiny_run.collect_all(store)
    assert not store.unfinished_uploads()


def test_unfinished_uploads_are_garbage_and_those_of_others_are_not_ours(s3, run_url):
    store = tiny_run.make_run(run_url, 1)
    committed = read_commits(store)[0].objects["tar"].key
    bucket = run_url.split("/")[2]
    begin = fsspec.filesystem("s3").call_s3
    ours = {committed, "_views/loose/pairs.parquet", ".nv-meta/index.sqlite"}
    for key in (*ours, "shards/mine.bin"):
        begin("create_multipart_upload", Bucket=bucket, Key=f"run/{key}")
    begin("create_multipart_upload", Bucket=bucket, Key="run2/shards/tiny-000000.ab.tar")
    assert {upload.key for upload in store.unfinished_uploads()} == {*ours, "shards/mine.bin"}
    found = garbage(store, NO_GRACE)
    assert {(entry.key, entry.upload is not None) for entry in found} == {(k, True) for k in ours}
    removed = tiny_run.collect_all(store)
    assert {(entry.key, entry.upload) for entry in removed} == {(e.key, e.upload) for e in found}
    assert not store.discard(removed[0])
    assert garbage(store, NO_GRACE) == []
    assert verify_run(store).problems == ()


def test_expired_credentials_are_one_clear_line_at_once_and_lose_nothing(s3, run_url, run_store):
    store = tiny_run.make_run(run_url, 2)
    with s3.harmed_by(always(EXPIRED)) as requests:
        for operation in operations(store):
            requests.clear()
            with pytest.raises(StoreRefusedError, match="renew the store's credentials") as info:
                operation()
            assert "\n" not in str(info.value)
            assert requests.total() <= 4, requests
    tiny_run.make_missing_shards(run_url, 3)
    assert tiny_run.contents(store) == tiny_run.contents(run_store)


@pytest.mark.parametrize("kind", ["get", "list", "put", "head", "create"])
def test_credentials_that_expire_during_a_shard_lose_that_shard_alone(s3, run_url, kind):
    store = tiny_run.make_run(run_url, 1)
    before = tiny_run.contents(store)
    expire = Faults(refuse=lambda asked: EXPIRED if s3.requests[kind] else None)
    with s3.harmed_by(expire), pytest.raises(StoreRefusedError, match="renew the store's"):
        tiny_run.make_missing_shards(run_url, 2)
    assert tiny_run.contents(store) == before
    tiny_run.make_missing_shards(run_url, 2)
    assert tiny_run.contents(store)[: len(before)] == before
    assert [*read_commits(store)] == [0, 1]


def test_a_listing_that_fails_is_never_an_empty_one(s3, run_url, no_retries_below, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    store = tiny_run.make_run(run_url, 1)
    broken = Faults(refuse=lambda kind: INTERNAL_ERROR if kind == "list" else None)
    with s3.harmed_by(broken):
        for list_it in (
            lambda: store.entries("_commits"),
            lambda: store.top_level(),
            lambda: store.any_key(ignoring=lambda key: False),
            lambda: read_commits(store),
            lambda: garbage(store, NO_GRACE),
        ):
            with pytest.raises(StoreError, match="can't list"):
                list_it()
    assert len(read_commits(store)) == 1


def test_a_command_against_expired_credentials_ends_with_one_line(s3, run_url, capsys):
    tiny_run.make_run(run_url, 1)
    with s3.harmed_by(always(EXPIRED)), pytest.raises(SystemExit) as leave:
        main(["status", run_url])
    assert leave.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "renew the store's credentials" in line


@pytest.mark.slow
def test_credentials_are_in_no_log_no_object_and_no_error(s3, run_url, caplog, capsys):
    caplog.set_level(logging.INFO)
    store = whole_life(run_url)
    seen = [repr(store), store.url, *map(str, store.read_many(store.list()).values())]
    # A store, or a proxy before it, that repeats what it was sent.
    telling = Answer(403, "AccessDenied: " + " ".join(SECRETS.values()))
    with s3.harmed_by(always(telling)):
        for operation in operations(store):
            with pytest.raises(StoreError) as info:
                operation()
            seen += traceback.format_exception(info.value)
    seen += [caplog.text, *capsys.readouterr()]
    for secret in SECRETS.values():
        assert not [text for text in seen if secret in text]


def test_a_resume_asks_once_for_each_commit(s3, run_url):
    """That a listing is one request a thousand keys is shown by benchmarks/object_store.py."""
    store, manifest = tiny_run.make_run(run_url, 3), tiny_run.make_manifest()
    with s3.harmed_by(Faults()) as requests:
        open_run(store, manifest)
        read_commits(store)
    # For a folder that is empty, here that of segments, s3fs looks in three ways.
    assert requests == {"get": 4, "list": 3, "head": 1}


def test_a_resume_asks_once_for_each_segment_that_covers_the_commits(s3, run_url):
    store, manifest = tiny_run.make_run(run_url, 7), tiny_run.make_manifest()
    tiny_run.compact_all(store)
    one_by_one = read_commits(store, from_segments=False)
    with s3.harmed_by(Faults()) as requests:
        open_run(store, manifest)
        receipts = read_commits(store)
    # run.json twice, four shards, two, and one receipt.
    assert requests == {"get": 5, "list": 2}
    assert [*receipts.items()] == [*one_by_one.items()]
    with s3.harmed_by(Faults()) as requests:
        read_index(store, receipts.values())
    assert requests == {"get": 3, "list": 1}
    assert verify_run(store).problems == ()


def test_what_the_user_has_configured_in_fsspec_counts(s3, run_url, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = {"endpoint_url": s3.url, "config_kwargs": {"read_timeout": 7}}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    store = ObjectStore.open(run_url)
    assert store.create_if_absent("run.json", b"{}")
    assert store._connection.filesystem.s3.meta.config.read_timeout == 7


def test_a_folder_that_a_console_has_made_is_empty(s3, run_url):
    filesystem = fsspec.filesystem("s3")
    filesystem.pipe_file(f"{run_url}/", b"")
    store = ObjectStore.open(run_url)
    open_run(store, tiny_run.make_manifest())
    assert list(store.list()) == ["run.json"]
    assert [entry.key for entry in store.top_level()] == ["run.json"]


def test_every_character_of_a_prefix_is_literal(s3):
    bucket = s3.new_bucket()
    sibling = ObjectStore.open(f"{bucket}/rb0n")
    sibling.put_bytes("shards/not-ours", b"1")
    url = f"{bucket}/r[b]*?{{c}}"
    store = whole_life(url)
    assert [*read_commits(store)] == [0, 1, 2]
    assert len(store.read_many(store.list("shards"))) == 3
    assert run_status(store).pairs == 8
    assert [*sibling.list()] == ["shards/not-ours"]


def _sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
