"""An export that was killed, wherever, ends with the bytes of one that was not."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_run
from metric_run import metric_sample

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.exports import exporting
from mfsynth.datasets.exports.base import whole_codes
from mfsynth.datasets.exports.exporting import STATE, export
from mfsynth.datasets.exports.hdf5 import Hdf5
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.registry import open_exporter
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind
from mfsynth.shards.commits import commit
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore


class Killed(BaseException):
    """Nothing catches it."""


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run_export(run, folder, name="parquet", *options, report=None, **settings):
    pairs = Pairs(RGBDDataset(run.url), **settings)
    options = options or (("pairs_per_file=3",) if name == "parquet" else ())
    return export(pairs, name, open_exporter(name, options), folder, report)


@pytest.mark.parametrize("name", ["parquet", "tum"])
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(metric_run, tmp_path, monkeypatch, name):
    replace, writes = exporting.atomic.replace, []
    monkeypatch.setattr(
        exporting.atomic, "replace", lambda *args: (writes.append(args[0]), replace(*args))
    )
    run_export(metric_run, tmp_path / "whole", name)
    whole = contents(tmp_path / "whole")
    assert len(writes) >= 6
    for survived in range(len(writes)):
        folder, made = tmp_path / f"{survived}", []

        def dying(path, data, survived=survived, made=made):
            if len(made) == survived:
                path.with_name(f".{path.name}.abc123.part").write_bytes(data[:5])
                raise Killed
            made.append(path)
            replace(path, data)

        monkeypatch.setattr(exporting.atomic, "replace", dying)
        with pytest.raises(Killed):
            run_export(metric_run, folder, name)
        monkeypatch.setattr(exporting.atomic, "replace", replace)
        assert not run_export(metric_run, folder, name).was_there
        assert contents(folder) == whole


def test_what_is_marked_is_not_read_again_and_what_is_through_not_at_all(
    metric_run, tmp_path, monkeypatch
):
    frames, read = Pairs.frames, []

    def counted(self, numbers):
        for frame in frames(self, numbers):
            read.append(frame.number)
            if len(read) == 4:
                raise Killed
            yield frame

    monkeypatch.setattr(Pairs, "frames", counted)
    with pytest.raises(Killed):
        run_export(metric_run, tmp_path)
    told = []
    run_export(metric_run, tmp_path, report=lambda *done: told.append(done))
    assert read == [0, 1, 2, 3, 3]
    assert told == [(3, 4), (4, 4)]
    assert run_export(metric_run, tmp_path).was_there
    assert len(read) == 5


def lose_a_file_of_each_block(folder):
    for path in [*folder.glob("depth/*[02].npy"), *folder.glob("data/*.parquet")]:
        path.unlink()


def lose_a_folder(folder):
    shutil.rmtree(next(path for path in folder.iterdir() if path.is_dir() and path.name != STATE))


def cut_a_file_off(folder):
    path = max(path for path in folder.rglob("*.*") if path.parent not in (folder, folder / STATE))
    os.truncate(path, path.stat().st_size - 1)


def lose_documents(folder):
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def cut_a_document_off(folder):
    path = next(path for path in folder.iterdir() if path.is_file())
    os.truncate(path, path.stat().st_size - 1)


def cut_marks_off(folder):
    for path in (folder / STATE).glob("0*.json"):
        os.truncate(path, path.stat().st_size // 2)


def empty_marks(folder):
    for path, text in zip((folder / STATE).glob("0*.json"), ("", "[1, 2]"), strict=False):
        path.write_text(text)


@pytest.mark.parametrize("name", ["parquet", "folder"])
@pytest.mark.parametrize(
    "spoil",
    [
        lose_a_file_of_each_block,
        lose_a_folder,
        cut_a_file_off,
        lose_documents,
        cut_a_document_off,
        cut_marks_off,
        empty_marks,
    ],
)
def test_what_was_lost_since_is_written_again(metric_run, tmp_path, name, spoil):
    run_export(metric_run, tmp_path, name)
    whole = contents(tmp_path)
    spoil(tmp_path)
    assert contents(tmp_path) != whole
    assert not run_export(metric_run, tmp_path, name).was_there
    assert contents(tmp_path) == whole
    assert run_export(metric_run, tmp_path, name).was_there


@pytest.mark.parametrize("lost", [True, False])
def test_a_marked_block_is_read_again_only_if_a_file_of_it_is_lost(
    metric_run, tmp_path, monkeypatch, lost
):
    run_export(metric_run, tmp_path / "whole")
    frames, read = Pairs.frames, []

    def dying(self, numbers):
        if 3 in numbers:
            raise Killed
        return frames(self, numbers)

    monkeypatch.setattr(Pairs, "frames", dying)
    with pytest.raises(Killed):
        run_export(metric_run, tmp_path / "out")
    if lost:
        next(tmp_path.glob("out/data/*.parquet")).unlink()
    monkeypatch.setattr(
        Pairs, "frames", lambda self, numbers: (read.extend(numbers), frames(self, numbers))[1]
    )
    run_export(metric_run, tmp_path / "out")
    assert read == ([0, 1, 2, 3] if lost else [3])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"name": "folder"}, "has an export of another format"),
        ({"options": ("pairs_per_file=2",)}, "has an export of other options"),
        ({"assume_fov": 50.0}, "has an export of another --assume-fov"),
    ],
    ids=str,
)
def test_a_folder_with_another_export_is_refused(metric_run, tmp_path, changed, problem):
    run_export(metric_run, tmp_path)
    before = contents(tmp_path)
    options = changed.pop("options", ())
    with pytest.raises(MfsynthError, match=problem):
        run_export(metric_run, tmp_path, changed.pop("name", "parquet"), *options, **changed)
    assert contents(tmp_path) == before


def test_other_pairs_and_other_things_are_refused(metric_run, run_store, tmp_path, out):
    out.mkdir()
    (out / ".DS_Store").touch()
    run_export(run_store, out)
    with pytest.raises(MfsynthError, match=r"other pairs \(the run has grown, or is another\)"):
        run_export(metric_run, out)
    with pytest.raises(MfsynthError, match="has out and is no export; give a new or empty"):
        run_export(metric_run, tmp_path)
    (out / STATE / "job.json").write_text("[")
    with pytest.raises(MfsynthError, match=r"job\.json: not what it was"):
        run_export(run_store, out)


def test_of_two_at_once_the_second_is_refused(metric_run, tmp_path):
    (tmp_path / STATE).mkdir()
    with (tmp_path / STATE / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(MfsynthError, match="another process exports to it"):
            run_export(metric_run, tmp_path)
    run_export(metric_run, tmp_path)


def test_an_export_that_began_since_the_folder_was_looked_at_is_not_written_over(
    metric_run, tmp_path, monkeypatch
):
    alone = exporting.alone

    def overtaken(path):
        monkeypatch.setattr(exporting, "alone", alone)
        run_export(metric_run, tmp_path)
        return alone(path)

    monkeypatch.setattr(exporting, "alone", overtaken)
    with pytest.raises(MfsynthError, match="has an export of other options"):
        run_export(metric_run, tmp_path, "parquet", "pairs_per_file=2")
    assert run_export(metric_run, tmp_path).was_there


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(metric_run, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(exporting.atomic, "replace", full)
        with pytest.raises(MfsynthError, match=r"No space left on device.*same command"):
            run_export(metric_run, tmp_path)
    assert run_export(metric_run, tmp_path).pairs == 4


@pytest.mark.parametrize("name", ["tum", "scannet", "bop", "glb"])
def test_relative_depth_does_not_leave_as_metres(run_store, out, name):
    with pytest.raises(MfsynthError, match=r"8 of 8 pairs have relative depth.*--metres-per-unit"):
        run_export(run_store, out, name)
    assert not out.exists()


@pytest.mark.parametrize("name", ["bop", "glb", "ply"])
def test_a_format_that_needs_a_camera_says_so(run_store, out, name):
    with pytest.raises(MfsynthError, match=r"4 of 8 pairs have no camera.*--assume-fov"):
        run_export(run_store, out, name, metres_per_unit=1.0)


def test_depth_that_is_in_metres_takes_no_factor(metric_run, out):
    with pytest.raises(MfsynthError, match="all depth is in metres; leave --metres-per-unit out"):
        run_export(metric_run, out, "tum", metres_per_unit=2.0)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.0, -1.0, 1.5e38, 1e-38, 1e-320])
def test_a_factor_that_leaves_no_depth_that_float32_holds_is_refused(run_store, out, factor):
    with pytest.raises(MfsynthError, match=r"--metres-per-unit .*float32 can't hold"):
        run_export(run_store, out, "folder", metres_per_unit=factor)
    assert not out.exists()


# Of 1 to 2.9 units.
@pytest.mark.parametrize("factor", [1000.0, 1e-6])
@pytest.mark.parametrize("name", ["tum", "scannet", "bop"])
def test_an_export_that_would_keep_no_depth_is_refused(run_store, out, name, factor):
    with pytest.raises(MfsynthError, match="none of 8 pairs has depth between"):
        run_export(run_store, out, name, metres_per_unit=factor, assume_fov=60.0)
    assert not out.exists()


@pytest.mark.parametrize("name", ["tum", "scannet", "bop"])
def test_what_a_format_reaches_is_what_it_has_codes_for(name):
    ends = open_exporter(name, ()).reach
    per_metre = {"tum": (5000.0, 5000.0), "scannet": (1000.0, 1000.0), "bop": (1e4, 1000.0)}[name]
    for end, per, inwards in zip(ends, per_metre, (1.001, 1 - 1e-6), strict=True):
        inside, outside = (np.full((1, 1), end * by, np.float32) for by in (inwards, 2 - inwards))
        assert whole_codes(inside, per)[1] == 0
        assert whole_codes(outside, per)[1] == 1


def test_of_depth_with_an_unknown_shift_no_factor_makes_metres(tmp_path, out):
    store = tiny_run.make_run(str(tmp_path / "run"), shards=0)
    kinds = [DepthKind.AFFINE_INVARIANT_Z, *[DepthKind.SCALE_INVARIANT_Z] * 5]
    samples = [replace(tiny_run.make_sample(i), depth_kind=kind) for i, kind in enumerate(kinds)]
    commit(store, tiny_run.upload_shard(store, 0, samples))
    with pytest.raises(MfsynthError, match="1 of 6 pairs have depth with an unknown shift"):
        run_export(store, out, "tum", metres_per_unit=2.0)
    assert run_export(store, out, "folder").pairs == 6


def test_a_format_whose_package_is_not_here_says_how_to_get_it(metric_run, out, monkeypatch):
    monkeypatch.setattr(Hdf5, "needs_module", "no_such_module")
    with pytest.raises(MfsynthError, match=r"pip install 'mfsynth\[hdf5\]'"):
        run_export(metric_run, out, "hdf5")
    assert not out.exists()


def test_an_export_that_keeps_no_depth_at_all_is_refused(tmp_path, out):
    """Though the least and the greatest depth of its pair have codes between them."""
    sample = metric_sample(0)
    depth = np.where(np.arange(32) % 2, 2e-5, 70).astype(np.float32) * (sample.depth > 0)
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, tiny_run.make_manifest())
    rejects = [tiny_run.make_reject(i) for i in range(1, tiny_run.SHARD_SIZE)]
    pair = replace(sample, depth=depth)
    assert commit(store, tiny_run.upload_shard(store, 0, [pair, *rejects]))
    pairs = Pairs(RGBDDataset(store.url))
    for _ in range(2):
        with pytest.raises(MfsynthError, match="no pair keeps any depth, for all of it is where"):
            export(pairs, "tum", open_exporter("tum"), out)


@pytest.mark.parametrize("angle", [0, -5, 180, 270, 400, 1e-320, float("nan"), float("inf"), "60"])
def test_an_angle_that_no_camera_has_is_one_line(run_store, metric_run, angle):
    # In the second run every pair has a camera.
    for run in (run_store, metric_run):
        with pytest.raises(MfsynthError, match=r"^--assume-fov .*: no horizontal field of view"):
            Pairs(RGBDDataset(run.url), assume_fov=angle)
