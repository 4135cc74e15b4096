"""What a training writes for TensorBoard, read back from its event files."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from tiny_training import flux2_config, flux2_mixture, make_flux2_trainer, save_flux2

from mfsynth.training import tensorboard
from mfsynth.training.sample_grids import GridSampler, colour_depth, first_with_depth
from mfsynth.training.tensorboard import Board

pytest.importorskip("tensorboard")

ERRORS = ("error", "error_of_doing_nothing")


def test_scalars_and_samples_are_in_the_event_file(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = flux2_config(
        save_flux2(tmp_path / "flux2"), tmp_path, samples={"images": 3, "steps": 2}
    )
    trainer, components = make_flux2_trainer(config)
    data, board = flux2_mixture(), Board(tmp_path / "board", 0)
    sampler = GridSampler(components, config, data)
    trainer.run(data, tmp_path, lambda _: None, board, sampler)
    board.close()

    events = EventAccumulator(str(tmp_path / "board")).Reload()
    tags = events.Tags()
    expected = {
        "loss/rgb",
        "loss/depth",
        "loss/distillation",
        "learning_rate/adamw",
        "learning_rate/adamw_depth",
        "gradient_norm",
        "samples_per_second",
        "health_probe",
    }
    by_level = {tag for tag in tags["scalars"] if tag.startswith("error")}
    streams = {tag.split("_t_")[0] for tag in by_level}
    assert streams == {f"{of}/{s}" for of in ERRORS for s in ("rgb", "depth")}
    assert set(tags["scalars"]) - by_level == expected
    assert all([e.step for e in events.Scalars(tag)] == [3, 4] for tag in expected)
    assert all(e.value > 0 for tag in expected for e in events.Scalars(tag))
    assert set(tags["images"]) == {"joint", "i2d"}
    last = events.Images("i2d")[-1]
    shown = np.array(PIL.Image.open(io.BytesIO(last.encoded_image_string)))
    # Three cells of image, depth and true depth.
    assert shown.shape == (32, 3 * 96 + 2 * 2, 3)
    first = first_with_depth(data, 0, 3)[0]
    np.testing.assert_array_equal(shown[:, :32], first.rgb)
    np.testing.assert_array_equal(shown[:, 64:96], colour_depth(first.depth))


def test_without_the_package_there_is_one_line(monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    said = []
    assert not tensorboard.is_installed(said.append)
    assert said == ["no TensorBoard scalars and samples: install mfsynth[train] to have them"]
