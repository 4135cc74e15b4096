"""Pairs in Rerun, by a recording that its own reader opens."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rerun
import tiny_run
from metric_run import make_metric_run
from rerun.chunk import RrdReader

from mfsynth.cli import main
from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.shards.commits import commit
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["view", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.fixture
def run(tmp_path):
    """Two pairs of linear codes, one of logarithms."""
    return make_metric_run(str(tmp_path / "run"), [None, 20.0, 70.0])


def test_a_recording_has_each_pair_with_its_camera_and_depth(run, tmp_path, capsys):
    code, out, _ = called(capsys, run.url, "--save", tmp_path / "pairs.rrd", "--start", 1)
    assert (code, out) == (0, f"2 of 3 pairs: {tmp_path}/pairs.rrd\n")
    found = read(tmp_path / "pairs.rrd")
    dataset = RGBDDataset(run.url)
    for number in (1, 2):
        sample, files = dataset.with_files(number)
        [jpeg] = found["/camera/rgb", "blob", number]
        assert bytes(jpeg) == files["rgb"]
        [matrix] = found["/camera", "image_from_camera", number]
        k = np.add(sample.intrinsics, [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        np.testing.assert_allclose(np.reshape(matrix, (3, 3)).T, k)
        assert len(found["/points", "positions", number]) == 24 * 32 // 4 - 2
        assert found["/scores/registration", "scalars", number] == [sample.scores["registration"]]
        assert sample.prompt in found["/prompt", "text", number][0]
    [png] = found["/camera/depth", "blob", 1]
    [meter] = found["/camera/depth", "meter", 1]
    _, files = dataset.with_files(1)
    assert bytes(png) == files["depth"]
    assert meter == pytest.approx(65535 / 20, rel=1e-5)
    [buffer] = found["/camera/depth", "buffer", 2]
    np.testing.assert_array_equal(
        np.frombuffer(bytes(buffer), np.float32).reshape(24, 32), dataset[2].depth
    )


def read(path):
    found = {}
    for chunk in RrdReader(path).stream():
        for row in chunk.to_record_batch().to_pylist():
            for name, value in row.items():
                if value is not None and ":" in name:
                    found[chunk.entity_path, name.rpartition(":")[2], row.get("pair")] = value
    return found


def test_a_window_is_sent_what_a_recording_has(run, tmp_path, capsys, monkeypatch):
    shown = tmp_path / "shown.rrd"
    # In place of a window, which is a process that listens, a file takes what it would be sent.
    monkeypatch.setattr(rerun.RecordingStream, "spawn", lambda stream: stream.save(shown))
    assert called(capsys, run.url, "--count", 2)[:2] == (0, "2 of 3 pairs\n")
    called(capsys, run.url, "--count", 2, "--save", tmp_path / "saved.rrd")
    found, saved = read(shown), read(tmp_path / "saved.rrd")
    assert {pair for _, _, pair in found} == {None, 0, 1}
    for key in (key for key in saved if key[2] is not None):
        assert found[key] == saved[key], key
    assert found["/camera/rgb", "blob", 1] == saved["/camera/rgb", "blob", 1]


def test_where_no_window_opens_it_is_said_how_else(run, capsys, monkeypatch):
    def spawn(stream):
        raise RuntimeError("Failed to find Rerun Viewer executable in PATH")

    monkeypatch.setattr(rerun.RecordingStream, "spawn", spawn)
    code, _, err = called(capsys, run.url)
    assert code == 1
    assert "viewer can't be opened here (Failed to find" in err
    assert "--save FILE.rrd" in err


def test_without_rerun_it_is_said_how_to_get_it(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    code, _, err = called(capsys, run.url, "--save", "pairs.rrd")
    assert code == 1
    assert "pip install 'mfsynth[view]'" in err


def test_pairs_that_are_not_there_are_not_shown(run, capsys):
    code, _, err = called(capsys, run.url, "--start", 3)
    assert code == 1
    assert "--start 3: there are 3 pairs" in err


def test_of_a_run_without_pairs_there_is_nothing_to_show(tmp_path, capsys):
    store = ObjectStore.open(str(tmp_path / "rejected"))
    open_run(store, tiny_run.make_manifest())
    rejects = [tiny_run.make_reject(candidate) for candidate in range(tiny_run.SHARD_SIZE)]
    commit(store, tiny_run.upload_shard(store, 0, records=rejects))
    assert called(capsys, store.url) == (1, "", f"error: {store.url}: there are no pairs to show\n")
    # A factor of theirs, as for a run that goes on.
    assert len(Pairs(RGBDDataset(store.url), metres_per_unit=2.0)) == 0
