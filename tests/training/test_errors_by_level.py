"""Errors by noise level: what is summed, and that nothing is lost on the way to the board."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_training import Scalars, make_components, make_trainer, optimiser, random_mixture

from mfsynth.models.token_codecs import patchify
from mfsynth.training.config import NoiseConfig
from mfsynth.training.data import collate
from mfsynth.training.errors_by_level import no_errors, scalars, sum_by_level
from mfsynth.training.joint_model import Prediction
from mfsynth.training.objective import Objective

CPU = torch.device("cpu")
LEVELS = torch.tensor([0.01, 0.05, 0.06, 0.5, 0.96, 1.0])


def test_a_sample_counts_at_its_own_level_if_at_all():
    error = torch.tensor([1.0, 2.0, 4.0, 8.0, torch.nan, 16.0])
    counts = torch.tensor([True, True, True, True, False, True])
    sums = sum_by_level(error, 10 * error, LEVELS, counts)
    expected = torch.tensor([3.0, 4.0, 8.0, 0.0, 0.0, 16.0])
    number = torch.tensor([2.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    torch.testing.assert_close(sums, torch.stack([expected, 10 * expected, number]))


def test_levels_that_did_not_occur_have_no_scalar():
    sums = no_errors(CPU)
    assert scalars(sums) == {}
    sums[1, :, 2] = torch.tensor([3.0, 6.0, 2.0])
    assert scalars(sums) == {
        "error/depth_t_0.25-0.50": 1.5,
        "error_of_doing_nothing/depth_t_0.25-0.50": 3.0,
    }


@pytest.mark.parametrize("velocity", [False, True])
def test_errors_are_those_of_the_clean_signal_where_it_is_measured(velocity):
    config = optimiser(text_dropout=0)
    components = make_components(config)
    components.model.transformer.register_to_config(
        rgb_prediction="velocity" if velocity else "sample"
    )
    objective = Objective(components, config, NoiseConfig(), 0, CPU)
    samples = collate([random_mixture().sample(0, index) for index in range(6)])
    samples.depth[:, 1::2] = 0
    batch = objective.prepare(samples, range(6))
    assert batch.depth is not None
    batch = replace(batch, t_rgb=LEVELS, depth=replace(batch.depth, t=LEVELS.flip(0)))
    noisy = batch.depth
    measured = patchify(noisy.measured[:, None], 8)

    def nearly_right(**_):
        rgb = batch.rgb_noise - batch.rgb if velocity else batch.rgb
        # A velocity that is off by 0.3 is a clean signal that is off by 0.3 · t.
        return Prediction(rgb + 0.3, torch.where(measured, noisy.clean + 0.2, torch.nan))

    sums = objective.losses(nearly_right, batch, {}, None).by_level
    of_rgb = 0.09 * LEVELS**2 if velocity else torch.full((6,), 0.09)
    assert_errors(sums[0, 0], of_rgb, LEVELS)
    assert_errors(sums[1, 0], torch.full((6,), 0.04), LEVELS.flip(0))
    noise = (batch.rgb_noise - batch.rgb).square().mean(dim=(1, 2))
    assert_errors(sums[0, 1], LEVELS**2 * noise, LEVELS)
    noise = (noisy.noise - noisy.clean).square()
    noise = torch.where(measured, noise, 0).sum(dim=(1, 2)) / measured.sum(dim=(1, 2))
    assert_errors(sums[1, 1], LEVELS.flip(0) ** 2 * noise, LEVELS.flip(0))


def assert_errors(found, errors, t):
    expected = sum_by_level(errors, errors, t, t > 0)[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_given_streams_and_samples_without_depth_do_not_count():
    config = optimiser()
    noise = NoiseConfig(i2d_share=1, d2i_share=0)
    objective = Objective(make_components(config), config, noise, 0, CPU)
    samples = collate([random_mixture().sample(0, index) for index in range(4)])
    samples.depth[:2] = 0
    batch = objective.prepare(samples, range(4))
    model = objective._components.model
    counts = objective.losses(model, batch, {}, None).by_level[:, 2].sum(dim=1)
    # Images are given where there is depth, and alone where there is none.
    assert counts.tolist() == [2, 2]
    image_only = objective.prepare(samples, range(4), image_only=True)
    counts = objective.losses(model, image_only, {}, None).by_level[:, 2].sum(dim=1)
    assert counts.tolist() == [4, 0]


def test_accumulated_batches_count_like_a_large_one(tmp_path):
    boards = []
    for batch_size, accumulate in ((8, 1), (4, 2)):
        boards.append(Scalars())
        trainer = make_trainer(optimiser(batch_size=batch_size, accumulate=accumulate))
        trainer.run(random_mixture(), tmp_path / str(accumulate), lambda _: None, boards[-1])
    whole, parts = ({step: errors(values) for step, values in b.by_step.items()} for b in boards)
    assert list(whole) == [3, 6]
    assert any("depth" in tag for tag in whole[6])
    for step, values in whole.items():
        assert parts[step] == pytest.approx(values, rel=1e-3)


def errors(values):
    return {tag: value for tag, value in values.items() if tag.startswith("error")}
