"""A job over a source, by the command, that is killed: the same command goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_jobs import make, picture, rows_of
from video_files import write_video

from mfsynth.datasets import RGBDDataset
from mfsynth.runs.jobs import job_of
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


# Two processes load torch, twice: on a busy machine that takes longer than a test may.
@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_killed_run_over_a_source_goes_on_to_the_same_pairs(job, run_folder, cluster, tmp_path):
    """With the embedded model, on frames of another size than its own."""
    frames = [picture(number, 48, 64) for number in range(6)]
    video = write_video(tmp_path / "kitchen.mp4", frames, "yuv420p", "mpeg4", qscale="2")
    sampler = {"mode": "i2d", "steps": 2, "guidance": 1.0}
    changes = {"model": {"id": "embedded"}, "sampler": sampler, "shard_size": 2}
    source = {"kind": "video", "path": str(video)}
    runtime = run_folder.values["runtime"] | {"ray_address": cluster}
    config = job("i2d", source, output=str(tmp_path / "killed"), runtime=runtime, **changes)
    path = tmp_path / "job.json"
    path.write_text(config.model_dump_json(exclude={"runtime": {"on_event"}}))
    command = [sys.executable, "-m", "mfsynth.cli", job_of(config), str(path)]
    # Ray's workers are of low priority (15): beside busy processes they get hardly any time.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    commits = tmp_path / "killed" / "_commits"
    try:
        while not commits.is_dir() or not [*commits.glob("*.json")]:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr
    whole = make(config.model_copy(update={"output": str(tmp_path / "whole")}), batch_size=4)
    killed = ObjectStore.open(config.output)
    assert verify_run(killed).problems == ()
    assert [row["source"] for row in rows_of(killed)] == [
        f"kitchen.mp4/{number:06d}" for number in range(6)
    ]
    # Another number of threads, or of images in a batch, rounds the last bit of a sum otherwise:
    # to the neighbouring code of a depth.
    pairs = zip(RGBDDataset(killed.url), RGBDDataset(whole.url), strict=True)
    for found, wanted in pairs:
        assert found.ref == wanted.ref
        assert np.array_equal(found.rgb, wanted.rgb)
        assert np.array_equal(found.valid, wanted.valid)
        assert np.abs(found.depth - wanted.depth).max() <= 1.01 * wanted.depth.max() / 65535
