"""Checkpoints on disk: the newest whole one counts."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from disk_steps import killed_at_each_step, recorded

from mfsynth.errors import MfsynthError
from mfsynth.training.checkpoints import (
    checkpoint_folder,
    latest_checkpoint,
    write_checkpoint,
)
from mfsynth.training.identity import Identity

IDENTITY = Identity({"seed": 0, "size": 16})


def write(folder, step, value):
    parts = {part: {"weight": torch.full((2,), value)} for part in ("model", "average")}
    write_checkpoint(folder, step, IDENTITY, parts, True)


def read(folder):
    """Step of the checkpoint that counts, and the value of all its tensors."""
    checkpoint = latest_checkpoint(folder)
    tensors = [t for part in ("model", "average") for _, t in checkpoint.read(part)]
    assert len(tensors) == 2
    [value] = {value for tensor in tensors for value in tensor.tolist()}
    return checkpoint.step, value


def refusal(folder):
    with pytest.raises(MfsynthError) as caught:
        latest_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_checkpoint_takes_the_place_of_the_old_one(tmp_path):
    assert latest_checkpoint(tmp_path / "nothing") is None
    write(tmp_path, 9, 1.0)
    write(tmp_path, 10, 2.0)
    found = latest_checkpoint(tmp_path)
    assert (found.step, [path.name for path in tmp_path.iterdir()]) == (10, [found.path.name])
    [(name, value)] = found.read("model")
    assert name == "weight"
    assert value.tolist() == [2.0, 2.0]
    assert not list(found.read("base"))
    assert found.record.settings == IDENTITY.settings


def test_what_was_not_finished_does_not_count_and_is_no_obstacle(tmp_path, monkeypatch):
    write(tmp_path, 9, 1.0)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mfsynth.training.checkpoints.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 10, 2.0)
    assert latest_checkpoint(tmp_path).path == checkpoint_folder(tmp_path, 9)
    monkeypatch.undo()
    write(tmp_path, 10, 2.0)
    assert latest_checkpoint(tmp_path).step == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path):
    write_checkpoint(tmp_path, 1, IDENTITY, {"model": {"weight": torch.ones(1)}}, False)
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
    names = ("model.safetensors", "average.safetensors", "checkpoint.json")
    files = (*names, steps[rename][1])
    assert {("fsync", file) for file in files} == {*steps[1:rename]}
    assert steps[rename + 1] == ("fsync", tmp_path.name)
    removed = steps.index(("rmtree", "checkpoint-00000009"))
    assert removed > rename + 1


def test_a_file_that_is_missing_cut_off_or_changed_is_named(tmp_path):
    def changed(data):
        return data[:-1] + bytes([data[-1] ^ 1])

    cases = {
        "average.safetensors": {
            None: "average.safetensors is missing",
            (lambda data: data[:-3]): "average.safetensors has 77 bytes, not 80",
            changed: "average.safetensors has changed since it was written",
        },
        "checkpoint.json": {
            None: "has no checkpoint.json",
            (lambda data: data[:-3]): "checkpoint.json is damaged",
            (lambda data: data.replace(b'"seed": 0', b'"seed": 1')): "checkpoint.json is damaged",
            (lambda data: data.replace(b'"step": 9', b'"step": 8')): "checkpoint.json is damaged",
            (lambda data: data.replace(b'"step": 9', b'"step": 9.0')): "checkpoint.json is damaged",
        },
    }
    for name, faults in cases.items():
        for fault, message in faults.items():
            write(tmp_path, 9, 1.0)
            file = checkpoint_folder(tmp_path, 9) / name
            file.unlink() if fault is None else file.write_bytes(fault(file.read_bytes()))
            said = refusal(tmp_path)
            assert message in said
            assert said.endswith(
                "give this training another output, or remove the checkpoint to begin anew"
            )


def test_an_older_whole_checkpoint_is_told(tmp_path):
    write(tmp_path, 9, 1.0)
    kept = tmp_path / "kept"
    checkpoint_folder(tmp_path, 9).rename(kept)
    write(tmp_path, 10, 2.0)
    kept.rename(checkpoint_folder(tmp_path, 9))
    file = checkpoint_folder(tmp_path, 10) / "model.safetensors"
    file.unlink()
    assert refusal(tmp_path).endswith(
        "checkpoint-00000010/model.safetensors is missing; checkpoint-00000009 is whole: remove "
        "checkpoint-00000010 to go on from step 9"
    )
    (checkpoint_folder(tmp_path, 9) / "average.safetensors").write_bytes(b"")
    assert "is whole" not in refusal(tmp_path)


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
