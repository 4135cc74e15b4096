"""Checkpoints on disk: the newest whole one counts."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from disk_steps import killed_at_each_step, recorded

from mfsynth.training.checkpoints import (
    checkpoint_folder,
    latest_checkpoint,
    read_part,
    write_checkpoint,
)


def write(folder, step, value):
    parts = {part: {"weight": torch.full((2,), value)} for part in ("model", "average")}
    write_checkpoint(folder, step, parts, True)


def read(folder):
    """Step of the checkpoint that counts, and the value of all its tensors."""
    step, checkpoint = latest_checkpoint(folder)
    tensors = [t for part in ("model", "average") for _, t in read_part(checkpoint, part)]
    assert len(tensors) == 2
    [value] = {value for tensor in tensors for value in tensor.tolist()}
    return step, value


def test_a_new_checkpoint_takes_the_place_of_the_old_one(tmp_path):
    assert latest_checkpoint(tmp_path / "nothing") is None
    write(tmp_path, 9, 1.0)
    write(tmp_path, 10, 2.0)
    step, folder = latest_checkpoint(tmp_path)
    assert (step, [path.name for path in tmp_path.iterdir()]) == (10, [folder.name])
    [(name, value)] = read_part(folder, "model")
    assert name == "weight"
    assert value.tolist() == [2.0, 2.0]
    assert not list(read_part(folder, "base"))


def test_what_was_not_finished_does_not_count_and_is_no_obstacle(tmp_path, monkeypatch):
    write(tmp_path, 9, 1.0)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mfsynth.training.checkpoints.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 10, 2.0)
    assert latest_checkpoint(tmp_path) == (9, checkpoint_folder(tmp_path, 9))
    monkeypatch.undo()
    write(tmp_path, 10, 2.0)
    assert latest_checkpoint(tmp_path)[0] == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path):
    write_checkpoint(tmp_path, 1, {"model": {"weight": torch.ones(1)}}, False)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    write(tmp_path, 9, 1.0)
    write(tmp_path, 9, 2.0)
    assert read(tmp_path) == (9, 2.0)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_killed_writers_left_is_no_checkpoint_and_goes_with_the_next(tmp_path):
    write(tmp_path, 9, 1.0)
    (tmp_path / ".checkpoint-00000012.0123456789ab.part").mkdir()
    (tmp_path / "model").mkdir()
    assert read(tmp_path) == (9, 1.0)
    write(tmp_path, 10, 2.0)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-00000010", "model"}


def test_the_older_checkpoint_goes_when_the_new_one_is_on_the_disk(tmp_path):
    write(tmp_path, 9, 1.0)
    with recorded() as steps:
        write(tmp_path, 10, 2.0)
    [rename] = [number for number, (step, _) in enumerate(steps) if step == "rename"]
    files = ("model.safetensors", "average.safetensors", steps[rename][1])
    assert {("fsync", file) for file in files} == {*steps[1:rename]}
    assert steps[rename + 1] == ("fsync", tmp_path.name)
    removed = steps.index(("rmtree", "checkpoint-00000009"))
    assert removed > rename + 1


def test_a_kill_at_any_step_leaves_a_whole_checkpoint(tmp_path):
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True)


def kill_writers(folder):
    for case, step in (("next", 10), ("same", 9)):
        place, seen = folder / case, set()
        write(place, 9, 1.0)
        for _ in killed_at_each_step(partial(write, place, step, 2.0)):
            found = read(place)
            assert found in ((9, 1.0), (step, 2.0)), found
            seen.add(found)
            write(place, 9, 1.0)
        assert len(seen) == 2
        assert read(place) == (step, 2.0)
        assert len(list(place.iterdir())) == 1


if __name__ == "__main__":
    kill_writers(Path(sys.argv[1]))
