"""Two Ray workers against one process with twice the batch."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mfsynth.errors import MfsynthError
from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.config import load_train_config
from mfsynth.training.ray_train import train_on_ray
from mfsynth.training.run import train

TINY = [
    "size=32",
    "transformer.layers=1",
    "transformer.single_layers=1",
    "transformer.heads=1",
    "transformer.text_layers=1",
    "transformer.text_channels=16",
    "optimiser.image_steps=1",
    "optimiser.joint_steps=2",
    # Rounding must not hide what two workers do otherwise than one.
    "optimiser.precision=float32",
    "samples={images: 1, steps: 1}",
]


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def images(tmp_path):
    """A folder of eight images with depth, as a part of the training set."""
    rng = np.random.default_rng(0)
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    for number in range(8):
        rgb = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        depth = rng.integers(500, 2000, (32, 32)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "rgb" / f"{number}.png"), rgb)
        cv2.imwrite(str(tmp_path / "depth" / f"{number}.png"), depth)
    part = {
        "kind": "folder",
        "layout": "generic",
        "path": str(tmp_path),
        "images": "rgb/*.png",
        "depths": "depth/*.png",
        "codes_per_unit": 1000,
        "captions": {"constant": "a red cube"},
    }
    return f"data={json.dumps([part])}"


def tiny(images, output, batch_size):
    settings = [*TINY, images, f"output={output}", f"optimiser.batch_size={batch_size}"]
    return load_train_config("embedded", settings)


@pytest.mark.slow
def test_two_workers_are_one_process_with_twice_the_batch(tmp_path, images, ray):
    folder = train_on_ray(tiny(images, tmp_path / "two", 2), 2, use_gpu=False)
    assert (folder / "model_index.json").exists()
    train(tiny(images, tmp_path / "one", 4), lambda _: None)
    one, two = (latest_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one.step == two.step == 3
    for part in ("model", "average", "optimiser"):
        expected = load_file(one.path / f"{part}.safetensors")
        found = load_file(two.path / f"{part}.safetensors")
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-3, atol=5e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.slow
def test_why_a_training_failed_is_one_line(tmp_path, images, ray, monkeypatch):
    monkeypatch.setattr("mfsynth.training.ray_train._RESTARTS", 0)
    config = tiny(images.replace("rgb/*.png", "nothing/*.png"), tmp_path / "out", 2)
    with pytest.raises(MfsynthError, match=r"^training on Ray failed: .*no images") as caught:
        train_on_ray(config, 2, use_gpu=False)
    assert "\n" not in str(caught.value)
