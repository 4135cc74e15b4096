"""What the model is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import make_components, optimiser, random_mixture

from mfsynth.training.config import NoiseConfig
from mfsynth.training.data import TrainingBatch, collate
from mfsynth.training.initial_model import InitialModel
from mfsynth.training.objective import NoisyBatch, Objective

ALL_D2I = NoiseConfig(i2d_share=0, d2i_share=1)


class Shown:
    """A forward that remembers its depth."""

    def __init__(self, model) -> None:
        self.model = model

    def __call__(self, **inputs):
        self.depth = inputs["depth"]
        return self.model(**inputs)


@pytest.fixture
def sparse() -> TrainingBatch:
    dense = random_mixture()
    samples = [dense.sample(0, index) for index in range(4)]
    for sample in samples:
        sample.depth[:, 1::2] = 0
    return collate(samples)


def make_objective(**changes) -> tuple[Objective, Shown, dict[str, torch.Tensor]]:
    config = optimiser(text_dropout=0, **changes)
    components = make_components(config)
    components.model.transformer.init_depth_from_rgb()
    generator = torch.Generator().manual_seed(1)
    for parameter in components.model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    # Its own, and not the weights that are trained: what it fills in must come from it.
    average = {name: 0.9 * p.detach().clone() for name, p in components.model.trained().items()}
    objective = Objective(components, config, ALL_D2I, 0, torch.device("cpu"))
    return objective, Shown(components.model), average


def shown(objective, forward, batch: NoisyBatch, average) -> torch.Tensor:
    objective.losses(forward, batch, average, None)
    return forward.depth


def test_sparse_depth_is_no_condition(sparse):
    objective, _, _ = make_objective()
    assert (objective.prepare(sparse, range(4)).depth.t > 0).all()


def test_completed_depth_is_a_condition_with_the_valid_pixels_as_they_are(sparse):
    objective, forward, average = make_objective(complete_depth=True)
    batch = objective.prepare(sparse, range(4))
    assert (batch.depth.t == 0).all()
    depth = shown(objective, forward, batch, average)
    valid = batch.depth.valid
    assert torch.equal(depth[valid], batch.depth.clean[valid])
    assert not torch.isclose(depth, batch.depth.seen)[~valid].any()


def test_what_completes_depth_is_the_averages_and_of_the_clean_image(sparse):
    objective, forward, average = make_objective(complete_depth=True)
    batch = objective.prepare(sparse, range(4))
    depth = shown(objective, forward, batch, average)
    other_noise = replace(batch, rgb_noise=batch.rgb_noise.flip(0), t_rgb=batch.t_rgb / 2)
    assert torch.equal(shown(objective, forward, other_noise, average), depth)
    invalid = ~batch.depth.valid
    other_image = replace(batch, rgb=batch.rgb.flip(0))
    assert not torch.isclose(shown(objective, forward, other_image, average), depth)[invalid].any()
    other_average = {name: 0.8 * value for name, value in average.items()}
    assert not torch.isclose(shown(objective, forward, batch, other_average), depth)[invalid].any()


def test_depth_that_is_generated_and_dense_depth_stay_as_they_are(sparse):
    objective, forward, average = make_objective(complete_depth=True)
    batch = objective.prepare(sparse, range(4))
    generated = replace(batch, depth=replace(batch.depth, t=torch.full((4,), 0.5)))
    assert torch.equal(shown(objective, forward, generated, average), generated.depth.noisy)
    dense = replace(batch, depth=replace(batch.depth, valid=torch.ones_like(batch.depth.valid)))
    assert torch.equal(shown(objective, forward, dense, average), dense.depth.noisy)


def test_large_errors_are_limited_where_the_image_is_given_and_only_there(sparse):
    plain, _, _ = make_objective()
    limited, _, _ = make_objective(i2d_error_limit=0.1)
    batch = plain.prepare_i2d(sparse, range(4), 1.0)
    output = plain.predict(batch)
    given = plain.depth_loss(output, batch), limited.depth_loss(output, batch)
    assert (given[1] < 0.8 * given[0]).all()
    mixed = replace(batch, t_rgb=torch.tensor([0.0, 0.5, 0.0, 1.0]))
    losses = limited.depth_loss(output, mixed)
    assert torch.equal(losses, torch.stack([given[1][0], given[0][1], given[1][2], given[0][3]]))


def test_a_condition_has_no_loss(sparse):
    objective, forward, average = make_objective(complete_depth=True)
    batch = objective.prepare(sparse, range(4))
    losses = objective.losses(forward, batch, average, None)
    assert losses.sums["depth"].item() == 0
    assert losses.sums["rgb"].item() > 0


@pytest.mark.parametrize("treatment", ["nearest", "noise", "prediction"])
def test_the_scale_of_depth_is_that_of_the_whole_map_wherever_it_is_known(sparse, treatment):
    dense = torch.ones_like(sparse.depth)
    dense[:, :, 8:] = 3.0
    uneven = dense.clone()
    # Of the far half, one column in eight.
    uneven[:, :, 9:] = 0
    objective, _, _ = make_objective(invalid_depth=treatment)
    whole, part = (
        objective.prepare(replace(sparse, depth=depth), range(4)).depth for depth in (dense, uneven)
    )
    assert part.valid.float().mean() == 9 / 16
    assert torch.equal(part.clean[part.valid], whole.clean[part.valid])


def test_samples_without_depth_do_not_thin_the_loss_of_those_with_it(sparse):
    objective, _, _ = make_objective()
    some = replace(sparse, depth=sparse.depth.clone())
    some.depth[1:] = 0
    assert objective.prepare(some, range(4)).generated()["depth"] == 1
    assert objective.prepare(sparse, range(4)).generated()["depth"] == 4


def test_the_base_of_a_model_that_sees_depths_level_alone_is_asked_as_its_pipeline_asks_it(sparse):
    objective, _, _ = make_objective(distillation={"noisy_depth": 1.0, "clean_depth": 0.1})
    components = objective._components
    asked = []
    components.model.register_forward_pre_hook(
        lambda _module, _some, inputs: asked.append(inputs), with_kwargs=True
    )
    base = {name: p.detach().clone() for name, p in components.model.named_parameters()}
    batch = objective.prepare(sparse, range(4))
    for mixes in (False, True):
        index = {"mixes_without_depth": mixes}
        objective._components = replace(components, initial=InitialModel(Path(), index))
        objective._base_velocity(batch, base)
        assert "depth" not in asked[-1]
        assert ("t_depth" in asked[-1]) == mixes
