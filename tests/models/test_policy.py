"""What a policy says between its points, and where it goes without the network."""

from __future__ import annotations

import pytest
import torch

from mfsynth.models.few_steps.policy import Policy

# For normal data of mean M and deviation S, the best x̂ and the way of a sample are known.
M, S = 0.5, 0.6


def teacher(noisy, t):
    """The exact x̂ of normal data."""
    variance = (1 - t) ** 2 * S**2 + t**2
    return M + (1 - t) * S**2 / variance * (noisy - (1 - t) * M)


def on_its_way(noise, t):
    """Where the exact flow has a sample at level t that was `noise` at level 1."""
    return (1 - t) * M + torch.sqrt((1 - t) ** 2 * S**2 + t**2) * noise


def taught(noise, start, end, points):
    """A policy with the teacher's exact x̂ at its points, along the teacher's own way."""
    levels = torch.linspace(start, end, points) if points > 1 else torch.tensor([start])
    clean = torch.stack([teacher(on_its_way(noise, t), t) for t in levels], dim=1)
    return Policy(clean, torch.full((len(noise),), start), torch.full((len(noise),), end))


@pytest.fixture
def noise():
    return torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.75), (0.75, 0.3), (0.5, 0.0), (1.0, 0.0)])
def test_a_policy_of_the_teachers_velocities_goes_the_teachers_way(noise, start, end):
    begun = on_its_way(noise, torch.tensor(start))
    # Near the end, not at it: of a way to level 0 the last x̂ is the end, and always right.
    level = torch.full((len(noise),), 0.9 * end + 0.1 * start, dtype=torch.float64)
    wanted = on_its_way(noise, level[0])
    errors = []
    for points in (2, 5, 9, 17, 33):
        policy = taught(noise, start, end, points)
        errors.append((policy.roll(begun, level) - wanted).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 3e-3
    # Twice the points, a quarter of the error: x̂ between them is linear, the rest is exact.
    assert errors[-1] < 0.35 * errors[-2]


def test_a_clean_image_that_is_linear_in_t_is_integrated_exactly():
    """x̂(t) = a + b·t gives z(t) = a + c·t − b·t·ln t."""
    a, b, c = 0.3, -0.7, 1.1
    start, end = torch.full((1,), 0.9), torch.zeros(1)

    def exact(t):
        return a + c * t - b * torch.xlogy(t, t)

    levels = torch.linspace(0.9, 0, 4)
    policy = Policy((a + b * levels)[None, :, None, None], start, end)
    for t in (0.85, 0.6, 0.31, 0.02, 0.0):
        level = torch.full((1,), t)
        rolled = policy.roll(exact(start)[:, None, None], level)
        torch.testing.assert_close(rolled[:, 0, 0], exact(level))
        torch.testing.assert_close(policy.clean_at(level)[:, 0, 0], a + b * level)


def test_one_point_is_a_step_of_euler(noise):
    policy = taught(noise, 0.8, 0.4, 1)
    begun = on_its_way(noise, torch.tensor(0.8))
    velocity = (begun - policy.clean[:, 0]) / 0.8
    rolled = policy.roll(begun, policy.end)
    torch.testing.assert_close(rolled, begun - 0.4 * velocity, rtol=1e-6, atol=1e-6)


def test_a_way_may_stop_in_between_at_another_level_for_each_sample(noise):
    policy = taught(noise, 0.9, 0.1, 9)
    begun = on_its_way(noise, torch.tensor(0.9))
    levels = torch.tensor([0.9, 0.7, 0.33, 0.1])
    rolled = policy.roll(begun, levels)
    for row, level in enumerate(levels):
        alone = policy.roll(begun, level.expand(4))[row]
        torch.testing.assert_close(rolled[row], alone)
    torch.testing.assert_close(rolled[0], begun[0])


def test_velocities_that_a_model_puts_out_become_clean_images():
    noisy = torch.randn(2, 3, 4)
    velocities = torch.randn(2, 3, 5, 4)
    start, end = torch.tensor([1.0, 0.6]), torch.tensor([0.6, 0.0])
    policy = Policy.of(velocities.flatten(2), noisy, start, end, is_velocity=True)
    assert policy.clean.shape == (2, 5, 3, 4)
    torch.testing.assert_close(policy.clean[1, 2], noisy[1] - 0.6 * velocities[1, :, 2])
