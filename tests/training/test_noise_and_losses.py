from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.models.codecs import DepthCodec, patchify, unpatchify
from mfsynth.training.invalid_depth import fill_invalid
from mfsynth.training.losses import (
    clean_signal_loss,
    clean_token_loss,
    health_probe,
    self_distillation_loss,
    velocity_loss,
)
from mfsynth.training.noise import NoiseRecipe, add_noise, draw_noise_levels, sample_generators


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_cases_come_in_the_shares_that_the_recipe_says():
    rgb, depth = draw_noise_levels(
        torch.ones(20_000),
        NoiseRecipe(i2d_share=0.2, d2i_share=0.3, shared_share=0.4),
        [seeded()] * 20_000,
    )
    assert (rgb == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (depth == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert not ((rgb == 0) & (depth == 0)).any()
    both = (rgb > 0) & (depth > 0)
    shared = (rgb == depth)[both].float().mean().item()
    assert shared == pytest.approx(0.4, abs=0.015)
    free = both & (rgb != depth)
    correlation = torch.corrcoef(torch.stack([rgb[free], depth[free]]))[0, 1].item()
    assert abs(correlation) < 0.03


def test_sparse_depth_is_never_given_and_an_image_alone_is_generated():
    share = torch.tensor([0.0, 0.05, 1.0]).repeat(2000)
    rgb, depth = draw_noise_levels(
        share, NoiseRecipe(i2d_share=0.4, d2i_share=0.4), [seeded()] * len(share)
    )
    assert (depth[share == 0.0] == 1).all()
    assert (rgb[share == 0.0] > 0).all()
    assert (depth[share == 0.05] > 0).all()
    assert (rgb[share == 0.05] == 0).any()
    assert (depth[share == 1.0] == 0).any()


def test_levels_are_logit_normal_about_mu():
    recipe = NoiseRecipe(
        i2d_share=0, d2i_share=0, shared_share=0, rgb_mu=1.1, depth_mu=2.0, sigma=0.8
    )
    levels = draw_noise_levels(torch.ones(20_000), recipe, [seeded()] * 20_000)
    rgb, depth = map(torch.logit, levels)
    assert rgb.mean().item() == pytest.approx(1.1, abs=0.03)
    assert depth.mean().item() == pytest.approx(2.0, abs=0.03)
    assert rgb.std().item() == pytest.approx(0.8, abs=0.03)
    assert depth.std().item() == pytest.approx(0.8, abs=0.03)


def test_noise_is_added_along_the_straight_line():
    clean, noise = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    noisy = add_noise(clean, noise, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(noisy[0], clean[0])
    torch.testing.assert_close(noisy[1], 0.75 * clean[1] + 0.25 * noise[1])
    torch.testing.assert_close(noisy[2], noise[2])


def loss_of(prediction, clean, valid, t, edge_weight=0.5):
    return clean_signal_loss(prediction, clean, valid, t, edge_weight).mean()


@given(seed=st.integers(0, 100), edge_weight=st.sampled_from([0.0, 0.5]))
def test_invalid_pixels_neither_change_the_loss_nor_get_a_gradient(seed, edge_weight):
    generator = seeded(seed)
    clean = torch.randn(2, 1, 16, 16, generator=generator)
    valid = torch.rand(2, 1, 16, 16, generator=generator) < 0.5
    t = torch.tensor([0.3, 0.9])
    prediction = torch.randn(2, 1, 16, 16, generator=generator, requires_grad=True)
    loss = loss_of(prediction, clean, valid, t, edge_weight)
    loss.backward()
    assert (prediction.grad[~valid] == 0).all()
    assert (prediction.grad[valid] != 0).any()
    garbage = torch.where(valid, clean, torch.full_like(clean, torch.inf))
    torch.testing.assert_close(loss_of(prediction, garbage, valid, t, edge_weight), loss)


def test_a_clean_stream_has_no_loss():
    prediction = torch.randn(2, 3, 16, 16, requires_grad=True)
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    clean = torch.randn(2, 3, 16, 16)
    loss_of(prediction, clean, valid, torch.tensor([0.0, 0.5])).backward()
    assert (prediction.grad[0] == 0).all()
    assert (prediction.grad[1] != 0).any()
    assert loss_of(prediction, clean, valid, torch.zeros(2)).item() == 0


def test_without_edges_the_loss_is_that_of_the_implied_velocity():
    clean, noise, prediction = (torch.randn(1, 3, 16, 16) for _ in range(3))
    t = 0.4
    noisy = (1 - t) * clean + t * noise
    velocity = (noisy - prediction) / t
    expected = (velocity - (noise - clean)).square().mean()
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    torch.testing.assert_close(
        loss_of(prediction, clean, valid, torch.tensor([t]), edge_weight=0.0), expected
    )


def test_losses_of_clean_tokens_and_of_the_velocity_that_they_imply_are_the_same():
    clean, noise, prediction = (torch.randn(2, 6, 5) for _ in range(3))
    t = torch.tensor([0.0, 0.4])
    velocity = (add_noise(clean, noise, t) - prediction) / 0.4
    losses = clean_token_loss(prediction, clean, t)
    torch.testing.assert_close(losses, velocity_loss(velocity, clean, noise, t))
    assert losses[0] == 0
    assert losses[1].item() == pytest.approx((velocity - noise + clean)[1].square().mean().item())


def test_the_right_velocity_has_no_loss():
    clean, noise = torch.randn(2, 6, 5), torch.randn(2, 6, 5)
    assert (velocity_loss(noise - clean, clean, noise, torch.tensor([0.2, 1.0])) == 0).all()


def test_random_numbers_are_the_samples_own():
    """Of its number and the seed, whoever else is in the batch."""
    batch, alone = sample_generators(3, range(40, 44)), sample_generators(3, [42])
    draws = [torch.rand(3, generator=one) for one in batch]
    assert torch.equal(draws[2], torch.rand(3, generator=alone[0]))
    other_seed = torch.rand(3, generator=sample_generators(4, [42])[0])
    assert len({tuple(draw.tolist()) for draw in [*draws, other_seed]}) == 5


def test_few_valid_pixels_weigh_less_than_a_dense_sample():
    prediction, clean = torch.ones(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    t = torch.tensor([1.0])
    dense = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    sparse = torch.zeros_like(dense)
    sparse[..., 0, :16] = True
    assert loss_of(prediction, clean, dense, t, 0.0).item() == pytest.approx(1.0)
    assert loss_of(prediction, clean, sparse, t, 0.0).item() == pytest.approx(16 / 64)


def test_the_edge_term_punishes_a_jump_between_patches_more_than_the_same_error_everywhere():
    clean = torch.zeros(1, 1, 16, 16)
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    level = torch.full((1, 1, 16, 16), 0.1)
    steps = unpatchify(
        patchify(level, 8) * torch.tensor([1, -1, -1, 1.0])[None, :, None], 8, (2, 2)
    )
    t = torch.tensor([1.0])
    assert loss_of(steps, clean, valid, t, 0.0) == loss_of(level, clean, valid, t, 0.0)
    assert loss_of(steps, clean, valid, t, 0.5) > loss_of(level, clean, valid, t, 0.5)


@given(scale=st.floats(0.01, 100))
def test_a_constant_scale_of_depth_changes_nothing_in_training(scale):
    codec = DepthCodec(8, 1.0, 0.4)
    depth = torch.rand(1, 16, 16, generator=seeded()) + 0.5
    depth[:, ::2] = 0
    one, other = (codec.encode(fill_invalid(maps)) for maps in (depth, depth * scale))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_self_distillation_weighs_by_depths_level_and_leaves_given_images_out():
    velocity = torch.ones(3, 4, 2, requires_grad=True)
    base = torch.zeros(3, 4, 2, requires_grad=True)
    t_rgb, t_depth = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([1.0, 0.25, 0.5])
    loss = self_distillation_loss(velocity, base, t_rgb, t_depth, 2.0, 0.4)
    assert loss.tolist() == pytest.approx([2.0, 0.5 + 0.3, 0.0])
    loss.sum().backward()
    assert base.grad is None
    assert (velocity.grad[:2] != 0).all()
    assert (velocity.grad[2] == 0).all()


def test_self_distillation_of_the_base_itself_is_nothing():
    velocity = torch.randn(2, 4, 2)
    t = torch.full((2,), 0.5)
    assert (self_distillation_loss(velocity, velocity, t, t, 1.0, 1.0) == 0).all()


def test_the_probe_tells_a_model_that_looks_at_the_image_from_one_that_does_not():
    rgb, depth = torch.randn(8, 4, 3, generator=seeded()), torch.randn(8, generator=seeded(1))
    rgb[:, 0, 0] = depth
    looks = lambda image: (image[:, 0, 0] - 0.9 * depth).square().mean()  # noqa: E731
    ignores = lambda image: (image.mean() * 0 + depth).square().mean()  # noqa: E731
    assert health_probe(looks, rgb) > 2
    assert health_probe(ignores, rgb) == pytest.approx(1)
