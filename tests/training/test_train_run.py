"""From a configuration to a model folder that loads: the whole of `mfsynth train`, tiny."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_training import mixture

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline, model_info
from mfsynth.training.config import load_train_config

TINY = [
    "size=32",
    "transformer.layers=1",
    "transformer.single_layers=1",
    "transformer.heads=1",
    "transformer.text_layers=1",
    "transformer.text_channels=16",
    "optimiser.image_steps=1",
    "optimiser.joint_steps=1",
    "optimiser.batch_size=2",
]


def tiny_scenes(folder) -> str:
    render = {"scenes": 2, "views": 2}
    return json.dumps([{"kind": "cached_scenes", "path": str(folder / "s"), "render": render}])


def test_training_ends_with_a_model_that_makes_pairs_and_is_not_repeated(tmp_path):
    pytest.importorskip("mujoco")
    from mfsynth.training.run import train

    config = load_train_config(
        "embedded", [*TINY, f"data={tiny_scenes(tmp_path)}", f"output={tmp_path / 'out'}"]
    )
    said: list[str] = []
    folder = train(config, said.append)
    assert "data.0: 4 items; of 4, 4 with depth" in said
    model = ModelConfig(id=str(folder))
    assert model_info(model).height == 32
    pairs = load_pipeline(model, "cpu")(["a red cube"], seeds=[0], num_inference_steps=2)
    assert pairs.rgb.shape == (1, 32, 32, 3)

    said.clear()
    train(config, said.append)
    assert any(line.startswith("resumed at step 2") for line in said)
    assert not any(line.startswith("step ") for line in said)


def test_a_training_says_in_how_many_samples_depth_can_be_a_condition():
    from mfsynth.training.run import tell_of_conditions

    depth = np.ones((8, 16, 16), np.float32)
    depth[::4, 4:] = 0
    images = np.zeros((8, 16, 16, 3), np.uint8)
    said: list[str] = []
    for data, changes in (
        (mixture(images, depth), ["optimiser.complete_depth=false"]),
        (mixture(images, depth), ["optimiser.complete_depth=true"]),
        (mixture(images, depth), ["optimiser.complete_depth=false", "noise.d2i_share=0"]),
        (mixture(images, np.ones_like(depth)), ["optimiser.complete_depth=false"]),
    ):
        tell_of_conditions(load_train_config("embedded", changes), data, said.append)
    assert len(said) == 1
    assert "may be a condition in 12 of the first 16 samples with depth: where at least" in said[0]


def test_a_misspelt_training_setting_is_told_its_right_name():
    with pytest.raises(
        MfsynthError, match=r"optimiser\.joint_step.*did you mean optimiser\.joint_steps"
    ):
        load_train_config("embedded", ["optimiser.joint_step=3"])


def test_an_output_that_is_no_path_is_told_in_our_words():
    with pytest.raises(MfsynthError, match=r"output: must be a path, not 3$"):
        load_train_config("embedded", ["output=3"])


def test_an_unknown_training_configuration_is_one_line():
    with pytest.raises(MfsynthError, match="did you mean embedded") as caught:
        load_train_config("embeded")
    assert "\n" not in str(caught.value)
