"""Everything that is done to a run, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import garbage
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

NO_GRACE = timedelta()


def whole_life(url: str) -> ObjectStore:
    """Everything that is ever done to a run."""
    store = tiny_run.make_missing_shards(url, 2)
    tiny_run.upload_shard(store, 1)
    tiny_run.make_missing_shards(url, 3)
    assert verify_run(store).problems == ()
    assert len(list(RGBDDataset(url))) == 8
    finalize(store)
    assert len(garbage(store, NO_GRACE)) == 3
    tiny_run.collect_all(store)
    return store


def assert_like_an_undisturbed_run(store: ObjectStore, run_store: ObjectStore) -> None:
    assert tiny_run.contents(store) == tiny_run.contents(run_store)
    assert verify_run(store).problems == ()
    receipts = read_commits(store)
    expected = {layout.RUN_KEY, layout.PROGRESS_KEY}
    expected |= {layout.MANIFEST_KEY, layout.CROISSANT_KEY, layout.CARD_KEY}
    expected |= {layout.commit_key(shard) for shard in receipts}
    expected |= {stored.key for r in receipts.values() for stored in r.objects.values()}
    assert {*store.list()} == expected
    assert not store.unfinished_uploads()


def operations(store: ObjectStore) -> list[Callable[[], object]]:
    """Whatever asks the store for something, each once."""
    # Other stores than S3 forget unfinished uploads by themselves, and aren't asked.
    uploads = [store.unfinished_uploads] if store.location.startswith("s3://") else []
    return [
        *uploads,
        lambda: store.read_bytes("run.json"),
        lambda: store.read_many(["run.json", "README.md"]),
        lambda: store.read_range("run.json", 0, 5),
        lambda: store.local_copy("run.json").__enter__(),
        lambda: store.put_bytes("README.md", b""),
        lambda: store.create_if_absent("run.json", b""),
        lambda: store.honours_create_if_absent("folder"),
        lambda: store.size("run.json"),
        lambda: store.entries("shards"),
        lambda: store.top_level(),
        lambda: store.any_key(ignoring=lambda key: True),
        lambda: store.clock("folder"),
        lambda: store.delete("README.md"),
        lambda: open_run(store, tiny_run.make_manifest()),
        lambda: read_commits(store),
        lambda: garbage(store, NO_GRACE),
        lambda: run_status(store),
        lambda: verify_run(store),
        lambda: finalize(store),
        lambda: RGBDDataset(store.url),
    ]
