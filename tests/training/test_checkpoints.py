"""Checkpoints on disk: the newest whole one counts."""

from __future__ import annotations

import pytest
import torch

from mfsynth.training.checkpoints import (
    checkpoint_folder,
    latest_checkpoint,
    read_part,
    write_checkpoint,
)


def write(folder, step, value):
    write_checkpoint(folder, step, {"model": {"weight": torch.full((2,), value)}}, True)


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
