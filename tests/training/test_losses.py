"""The losses of each stream."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.models.token_codecs import patchify, unpatchify
from mfsynth.training.losses import (
    clean_token_loss,
    depth_loss,
    self_distillation_loss,
    velocity_loss,
)
from mfsynth.training.noise import add_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(prediction, clean, valid, t, edge_weight=0.5):
    return depth_loss(prediction - clean, valid, t, edge_weight).mean()


@given(seed=st.integers(0, 100), edge_weight=st.sampled_from([0.0, 0.5]))
def test_invalid_pixels_neither_change_the_loss_nor_get_a_gradient(seed, edge_weight):
    generator = seeded(seed)
    clean = torch.randn(2, 16, 16, generator=generator)
    valid = torch.rand(2, 16, 16, generator=generator) < 0.5
    t = torch.tensor([0.3, 0.9])
    prediction = torch.randn(2, 16, 16, generator=generator, requires_grad=True)
    loss = loss_of(prediction, clean, valid, t, edge_weight)
    loss.backward()
    assert (prediction.grad[~valid] == 0).all()
    assert (prediction.grad[valid] != 0).any()
    garbage = torch.where(valid, clean, torch.full_like(clean, torch.inf))
    torch.testing.assert_close(loss_of(prediction, garbage, valid, t, edge_weight), loss)


def test_errors_beyond_the_limit_count_linearly():
    valid, t = torch.ones(3, 16, 16, dtype=torch.bool), torch.ones(3)
    errors = torch.tensor([0.2, -0.5, 3.0])[:, None, None].expand(3, 16, 16)
    limit = torch.tensor([0.5, 0.5, 0.5])
    losses = depth_loss(errors, valid, t, 0.0, limit)
    expected = torch.nn.functional.huber_loss(
        errors[:, 0, 0], torch.zeros(3), reduction="none", delta=0.5
    )
    torch.testing.assert_close(losses, 2 * expected)
    assert torch.equal(
        depth_loss(errors, valid, t, 0.5, torch.full((3,), torch.inf)),
        depth_loss(errors, valid, t, 0.5),
    )


def test_with_a_limit_an_uncertain_edge_is_near_or_far_and_not_between():
    # Two of three maps have the far side where one prediction has to serve them all.
    clean = torch.tensor([1.0, 2.0, 2.0])[:, None, None].expand(3, 16, 16)
    valid, t = torch.ones_like(clean, dtype=torch.bool), torch.ones(3)

    def best(limit: float) -> float:
        guesses = torch.linspace(0.9, 2.1, 121)
        limits = torch.full((3,), limit)
        losses = [depth_loss(guess - clean, valid, t, 0.0, limits).sum() for guess in guesses]
        return guesses[torch.stack(losses).argmin()].item()

    assert best(torch.inf) == pytest.approx(5 / 3, abs=0.01)
    assert best(0.05) == pytest.approx(2.0, abs=0.05)


def test_a_clean_stream_has_no_loss():
    prediction = torch.randn(2, 16, 16, requires_grad=True)
    valid = torch.ones(2, 16, 16, dtype=torch.bool)
    clean = torch.randn(2, 16, 16)
    loss_of(prediction, clean, valid, torch.tensor([0.0, 0.5])).backward()
    assert (prediction.grad[0] == 0).all()
    assert (prediction.grad[1] != 0).any()
    assert loss_of(prediction, clean, valid, torch.zeros(2)).item() == 0


def test_without_edges_the_loss_is_that_of_the_implied_velocity():
    clean, noise, prediction = (torch.randn(1, 16, 16) for _ in range(3))
    t = 0.4
    noisy = (1 - t) * clean + t * noise
    velocity = (noisy - prediction) / t
    expected = (velocity - (noise - clean)).square().mean()
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
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


def test_few_valid_pixels_weigh_less_than_a_dense_sample():
    prediction, clean = torch.ones(1, 16, 16), torch.zeros(1, 16, 16)
    t = torch.tensor([1.0])
    dense = torch.ones(1, 16, 16, dtype=torch.bool)
    sparse = torch.zeros_like(dense)
    sparse[:, 0] = True
    assert loss_of(prediction, clean, dense, t, 0.0).item() == pytest.approx(1.0)
    assert loss_of(prediction, clean, sparse, t, 0.0).item() == pytest.approx(16 / 64)


def test_the_edge_term_punishes_a_jump_between_patches_more_than_the_same_error_everywhere():
    clean = torch.zeros(1, 16, 16)
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    level = torch.full((1, 16, 16), 0.1)
    signs = torch.tensor([1, -1, -1, 1.0])[None, :, None]
    steps = unpatchify(patchify(level[:, None], 8) * signs, 8, (2, 2))[:, 0]
    t = torch.tensor([1.0])
    assert loss_of(steps, clean, valid, t, 0.0) == loss_of(level, clean, valid, t, 0.0)
    assert loss_of(steps, clean, valid, t, 0.5) > loss_of(level, clean, valid, t, 0.5)


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
