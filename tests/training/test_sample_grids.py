"""Pictures of what a model makes."""

from __future__ import annotations

import numpy as np
import torch
import yaml
from tiny_training import (
    SIZE,
    flux2_config,
    flux2_mixture,
    make_components,
    make_flux2_trainer,
    optimiser,
    random_mixture,
    save_flux2,
    snapshot,
)

from mfsynth.models import lapped_transform
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.training.build import build_components
from mfsynth.training.config import NoiseConfig, load_train_config
from mfsynth.training.data import collate
from mfsynth.training.objective import Objective
from mfsynth.training.sample_grids import GridSampler, colour_depth, tile


def test_sampling_leaves_the_weights_as_they_were_and_is_the_same_again(tmp_path):
    config = flux2_config(
        save_flux2(tmp_path / "flux2"),
        tmp_path,
        samples={"images": 2, "steps": 2, "prompts": ["a"]},
    )
    trainer, components = make_flux2_trainer(config)
    sampler = GridSampler(components, config, flux2_mixture())
    before = snapshot(trainer)
    one, other = sampler.grids(1), sampler.grids(1)
    assert one["joint"].shape == (32, 64, 3)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    trainer._evaluate(flux2_mixture(), lambda _: None, None, sampler)
    assert all((value == before[name]).all() for name, value in snapshot(trainer).items())


def test_pictures_are_of_the_text_encoder_that_is_being_trained(tmp_path):
    sizes = "{patch: 8, heads: 1, layers: 1, single_layers: 1, text_layers: 1, text_channels: 16}"
    config = load_train_config(
        "embedded",
        [
            *("size=32", f"output={tmp_path}", "samples={images: 1, steps: 2, guidance: 4.0}"),
            *(f"transformer.{key}={value}" for key, value in yaml.safe_load(sizes).items()),
        ],
    )
    components = build_components(config, ["a red cube"])
    sampler = GridSampler(components, config, random_mixture())
    step = config.optimiser.total_steps
    sampler.grids(step)
    with torch.no_grad():
        for weight in components.text_encoder.parameters():
            weight.mul_(1.5)
    new = GridSampler(components, config, random_mixture()).grids(step)
    np.testing.assert_array_equal(sampler.grids(step)["joint"], new["joint"])


def test_while_images_alone_are_learnt_they_are_sampled_without_depth(tmp_path):
    flux2 = save_flux2(tmp_path / "flux2")
    config = flux2_config(
        flux2,
        tmp_path,
        pretrained={"id": str(flux2), "text_states": [1, 2]},
        optimiser=optimiser(image_steps=2, joint_steps=2).model_dump(),
        samples={"images": 2, "steps": 2},
    )
    components = build_components(config, [])
    sampler = GridSampler(components, config, flux2_mixture())
    generator = torch.Generator().manual_seed(0)
    shown = []
    for _ in range(2):
        for name, parameter in components.model.named_parameters():
            if "depth" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator)
        shown.append({step: sampler.grids(step) for step in (1, 2, 3)})
    one, other = shown
    for step in (1, 2):
        assert {*one[step]} == {"image"}
        assert one[step]["image"].shape == (32, 2 * 32 + 2, 3)
        np.testing.assert_array_equal(one[step]["image"], other[step]["image"])
    assert {*one[3]} == {"joint", "i2d"}
    assert (one[3]["joint"] != other[3]["joint"]).any()


def test_near_is_red_far_is_blue_and_invalid_is_black():
    depth = np.linspace(1, 3, 64, dtype=np.float32).reshape(8, 8)
    depth[0, 3] = 0
    picture = colour_depth(depth).astype(int)
    assert (picture[0, 3] == 0).all()
    assert picture[0, 1, 0] > picture[0, 1, 2]
    assert picture[7, 7, 2] > picture[7, 7, 0]
    assert (colour_depth(np.zeros((2, 2), np.float32)) == 0).all()


def test_cells_lie_in_rows_on_white():
    cells = [np.full((3, 5, 3), value, np.uint8) for value in (10, 20, 30)]
    grid = tile(cells, 2)
    assert grid.shape == (3 + 2 + 3, 5 + 2 + 5, 3)
    assert (grid[0, 0] == 10).all()
    assert (grid[0, 7] == 20).all()
    assert (grid[5, 0] == 30).all()
    assert (grid[5, 7] == 255).all()


def test_a_step_that_compares_pixels_trains_after_pictures_were_sampled():
    for kept in (lapped_transform.lapped_transform, lapped_transform._kept):
        kept.cache_clear()
    config = optimiser()
    components = make_components(config)
    pipeline = ModalityForcingPipeline(
        transformer=components.model.transformer,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        text_encoder_layers=components.text_layers,
        max_text_length=components.text_length,
        height=SIZE,
        width=SIZE,
        rgb_bands=(4, 2),
    )
    pipeline(["a red cube"], seeds=[1], num_inference_steps=1)
    objective = Objective(components, config, NoiseConfig(), 0, torch.device("cpu"))
    data = random_mixture()
    batch = objective.prepare(collate([data.sample(0, index) for index in range(4)]), range(4))
    model = components.model
    predicted = model(rgb=batch.noisy_rgb, t_rgb=batch.t_rgb, text=batch.text, grid=batch.grid).rgb
    components.rgb_codec.decode(predicted, batch.grid).square().mean().backward()
    assert model.transformer.proj_out.weight.grad.abs().sum() > 0
