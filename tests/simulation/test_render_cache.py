"""The folder of rendered scenes: resumable, the same for any number of processes, and guarded."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mfsynth.errors import MfsynthError
from mfsynth.prompts import load_library
from mfsynth.simulation import (
    STYLES,
    CachedScenes,
    cache,
    render_dataset,
    render_scene,
    scenes,
)
from mfsynth.storage import atomic

pytestmark = pytest.mark.usefixtures("opengl")

SETTINGS = {"scenes": 5, "views": 2, "size": 16, "seed": 3}
ARRAYS = ("rgb", "depth", "intrinsics", "camera_to_world")


class PowerCutError(Exception):
    pass


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cache, "_CHUNK_SCENES", 2)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return render_dataset(tmp_path_factory.mktemp("whole") / "scenes", **SETTINGS)


def assert_same(a, b):
    assert a.captions == b.captions
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_rows_are_views_of_scenes_in_order(uninterrupted):
    assert len(uninterrupted) == 10
    assert uninterrupted.rgb.shape == (10, 16, 16, 3)
    assert uninterrupted.depth.dtype == np.float32
    library = load_library("tabletop", seed=3)
    for index, scene in scenes(library, 3, [0, 4]):
        for image in render_scene(scene, 2, 16, 16):
            row = 2 * index + image.view_index
            np.testing.assert_array_equal(uninterrupted.rgb[row], image.rgb)
            np.testing.assert_array_equal(uninterrupted.depth[row], image.depth)
            assert uninterrupted.captions[row] == image.caption


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_an_interrupted_rendering_resumes_to_the_same_bytes(tmp_path, uninterrupted, stop_at):
    calls = 0

    def cut_power(done, total):
        nonlocal calls
        calls += 1
        if calls > stop_at:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        render_dataset(tmp_path / "scenes", **SETTINGS, progress=cut_power)
    with pytest.raises(MfsynthError, match="isn't rendered to the end"):
        CachedScenes.open(tmp_path / "scenes")
    assert_same(render_dataset(tmp_path / "scenes", **SETTINGS), uninterrupted)


def test_a_half_written_chunk_is_rendered_again(tmp_path, uninterrupted):
    folder = tmp_path / "scenes"
    render_dataset(folder, **SETTINGS)
    (folder / "captions.json").unlink()
    (folder / "finished" / "000001").unlink()
    np.load(folder / "rgb.npy", mmap_mode="r+")[5] = 0
    assert_same(render_dataset(folder, **SETTINGS), uninterrupted)


@pytest.mark.parametrize("text", ["[]", "[", '["a mug"]', "[1, 2, 3]"])
def test_captions_of_other_images_are_refused(tmp_path, uninterrupted, text):
    folder = tmp_path / "scenes"
    render_dataset(folder, **SETTINGS)
    (folder / "captions.json").write_text(text)
    with pytest.raises(MfsynthError, match=r"captions\.json: not the captions of \d+ images"):
        CachedScenes.open(folder)


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path, uninterrupted):
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / ".dataset.json.0123456789ab.part").write_text("{")
    assert_same(render_dataset(folder, **SETTINGS), uninterrupted)


def test_a_chunk_is_marked_done_after_its_images_are_on_the_disk(tmp_path, monkeypatch):
    steps = []
    flush, replace = np.memmap.flush, atomic.replace

    def recorded_flush(array):
        steps.append("flush")
        flush(array)

    def recorded_replace(path, data):
        steps.append(path.name)
        replace(path, data)

    monkeypatch.setattr(np.memmap, "flush", recorded_flush)
    monkeypatch.setattr(atomic, "replace", recorded_replace)
    render_dataset(tmp_path / "scenes", **SETTINGS | {"scenes": 2})
    begun = steps.index("dataset.json")
    assert steps[begun + 1 :] == ["flush"] * 4 + ["000000", "captions.json"]


def test_a_finished_folder_is_left_as_it_is(tmp_path):
    folder = tmp_path / "scenes"
    render_dataset(folder, **SETTINGS)
    before = (folder / "rgb.npy").stat().st_mtime_ns
    render_dataset(folder, **SETTINGS)
    assert (folder / "rgb.npy").stat().st_mtime_ns == before


def test_two_processes_render_the_same_as_one(tmp_path, uninterrupted):
    assert_same(render_dataset(tmp_path / "scenes", **SETTINGS, workers=2), uninterrupted)


def test_a_rendering_process_that_dies_is_replaced(tmp_path, uninterrupted):
    killed = []

    def kill_once(done, total):
        if done and not killed:
            killed.append(done)
            for process in multiprocessing.active_children():
                process.kill()

    folder = tmp_path / "scenes"
    assert_same(render_dataset(folder, **SETTINGS, workers=2, progress=kill_once), uninterrupted)
    assert killed


def test_processes_that_always_die_end_the_rendering(tmp_path, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch:
        patch.setattr(cache, "end_with_parent", partial(os._exit, 1))
        with pytest.raises(MfsynthError, match="killed 3 times in a row"):
            render_dataset(tmp_path / "scenes", **SETTINGS, workers=2)
    assert_same(render_dataset(tmp_path / "scenes", **SETTINGS), uninterrupted)


def test_other_settings_are_refused_by_name(tmp_path):
    folder = tmp_path / "scenes"
    render_dataset(folder, scenes=1, views=1, size=16, seed=0)
    with pytest.raises(MfsynthError, match=r"other settings \(seed 0 -> 1"):
        render_dataset(folder, scenes=1, views=1, size=16, seed=1)


def test_a_style_is_recorded_and_another_is_refused(tmp_path):
    folder, settings = tmp_path / "scenes", SETTINGS | {"scenes": 2}
    rendered = render_dataset(folder, **settings, style=STYLES["varied"])
    document = json.loads((folder / "dataset.json").read_text())
    assert document["style"]["name"] == "varied"
    assert document["style"]["fov_degrees"] == [35.0, 75.0]
    assert len(np.unique(rendered.intrinsics[:, 0, 0])) == 4
    assert CachedScenes.open(folder).settings.style == STYLES["varied"]
    with pytest.raises(MfsynthError, match=r"\(style\.name 'varied' -> 'plain'.* more\)"):
        render_dataset(folder, **settings)


def test_a_folder_from_before_styles_is_a_plain_one(tmp_path, uninterrupted):
    folder = tmp_path / "scenes"
    render_dataset(folder, **SETTINGS)
    document = json.loads((folder / "dataset.json").read_text())
    del document["style"]
    (folder / "dataset.json").write_text(json.dumps({**document, "fov_degrees": 40.0}))
    assert CachedScenes.open(folder).settings == uninterrupted.settings
    (folder / "finished" / "000001").unlink()
    assert_same(render_dataset(folder, **SETTINGS), uninterrupted)
    with pytest.raises(MfsynthError, match=r"style\.name 'plain' -> 'close'"):
        render_dataset(folder, **SETTINGS, style=STYLES["close"])


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(MfsynthError, match="isn't empty"):
        render_dataset(tmp_path, **SETTINGS)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MfsynthError, match="cannot write rendered scenes to"):
        render_dataset(tmp_path / "file" / "scenes", **SETTINGS)


def test_a_full_disk_is_a_clear_error_and_can_be_mended(tmp_path, monkeypatch, uninterrupted):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(MfsynthError, match="No space left on device; free some space"):
            render_dataset(tmp_path / "scenes", **SETTINGS)
    assert_same(render_dataset(tmp_path / "scenes", **SETTINGS), uninterrupted)


def test_an_unknown_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(MfsynthError, match=r"pipelines/render_tabletop\.py"):
        CachedScenes.open(tmp_path / "nothing")


def test_a_truncated_array_is_a_clear_error(tmp_path):
    folder = tmp_path / "scenes"
    render_dataset(folder, scenes=1, views=1, size=16, seed=0)
    data = (folder / "rgb.npy").read_bytes()
    (folder / "rgb.npy").write_bytes(data[:-10])
    with pytest.raises(MfsynthError, match=r"rgb\.npy can't be read"):
        CachedScenes.open(folder)


def test_a_damaged_description_is_a_clear_error(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"planet": "Mars"}))
    with pytest.raises(MfsynthError, match="doesn't describe rendered scenes"):
        CachedScenes.open(tmp_path)


@pytest.mark.parametrize("name", ["scenes", "views", "size", "workers"])
def test_a_number_below_one_is_refused(tmp_path, name):
    with pytest.raises(MfsynthError, match=f"{name} is 0"):
        render_dataset(tmp_path / "scenes", **{**SETTINGS, "workers": 1, name: 0})


def test_opened_arrays_are_read_only(uninterrupted):
    with pytest.raises(ValueError, match="read-only"):
        uninterrupted.rgb[0] = 0


class TestTheScript:
    def command(self, folder, *more):
        script = Path(__file__).parents[2] / "pipelines" / "render_tabletop.py"
        options = ["--scenes", "48", "--views", "1", "--size", "16", "--seed", "2"]
        return [sys.executable, str(script), *options, "--out", str(folder), *more]

    def test_killed_and_run_again_it_renders_what_one_run_does(self, tmp_path):
        folder = tmp_path / "killed"
        process = subprocess.Popen(self.command(folder, "--workers", "1"))
        while process.poll() is None and not list((folder / "finished").glob("*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "captions.json").exists()

        subprocess.run(self.command(folder, "--workers", "1"), check=True)
        whole = render_dataset(tmp_path / "whole", scenes=48, views=1, size=16, seed=2)
        assert_same(CachedScenes.open(folder), whole)

    def test_its_errors_are_one_line(self, tmp_path):
        (tmp_path / "letter.txt").touch()
        done = subprocess.run(self.command(tmp_path), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == (
            f"error: {tmp_path} isn't empty and holds no rendered scenes; choose another\n"
        )
