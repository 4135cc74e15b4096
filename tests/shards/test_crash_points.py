"""SIGKILL at every step that touches the disk: what is left is whole, and a restart finishes it."""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.shards.commits import commit, open_run, read_commits
from mfsynth.shards.layout import RUN_KEY
from mfsynth.shards.store import RunStore
from mfsynth.shards.verify import verify_run

SHARDS = 2
# Every call that makes bytes durable, publishes or removes a name.
STEPS = ((os, "fsync"), (os, "link"), (Path, "replace"), (Path, "unlink"))


def make_missing_shards(url: str) -> None:
    """What a driver does at every start, in one process."""
    store = RunStore.open(url)
    open_run(store, tiny_run.make_manifest())
    for shard in sorted({*range(SHARDS)} - {*read_commits(store)}):
        commit(store, tiny_run.upload_shard(store, shard))


def die_at_step(url: str, number: int, spool: str) -> None:
    tempfile.tempdir = spool
    taken = 0

    def counted(step: Callable) -> Callable:
        def run(*args, **kwargs):
            nonlocal taken
            taken += 1
            if taken == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **kwargs)

        return run

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))
    make_missing_shards(url)


@pytest.mark.slow
def test_a_run_killed_at_any_step_is_whole_and_resumes_to_the_same_samples(tmp_path):
    context = multiprocessing.get_context("fork")
    expected = [
        sample.sample_id
        for sample in RGBDDataset(tiny_run.make_run(str(tmp_path / "expected"), SHARDS).url)
    ]
    number, killed = 0, True
    while killed:
        number += 1
        url = str(tmp_path / f"run-{number}")
        child = context.Process(target=die_at_step, args=(url, number, str(tmp_path)))
        child.start()
        child.join(60)
        killed = child.exitcode == -signal.SIGKILL
        assert killed or child.exitcode == 0, f"step {number}"
        store = RunStore.open(url)
        if store.exists(RUN_KEY):
            assert verify_run(store).problems == (), f"step {number}"
            found = [sample.sample_id for sample in RGBDDataset(url)]
            assert found == expected[: len(found)], f"step {number}"
        make_missing_shards(url)
        assert verify_run(store).problems == (), f"step {number}"
        assert [sample.sample_id for sample in RGBDDataset(url)] == expected, f"step {number}"
    # run.json, and a spool, three uploads and a commit for each shard, of several steps each.
    assert number > 30
    assert [path for path in tmp_path.iterdir() if path.name.startswith("mfsynth-")] == []
