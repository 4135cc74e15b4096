"""How noise levels and noise are drawn."""

from __future__ import annotations

import pytest
import torch

from mfsynth.training.noise import NoiseConfig, add_noise, draw_noise_levels, sample_generators


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_cases_come_in_the_shares_that_the_configuration_says():
    rgb, depth = draw_noise_levels(
        torch.ones(20_000),
        NoiseConfig(i2d_share=0.2, d2i_share=0.3, shared_share=0.4),
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
        share, NoiseConfig(i2d_share=0.4, d2i_share=0.4), [seeded()] * len(share)
    )
    assert (depth[share == 0.0] == 1).all()
    assert (rgb[share == 0.0] > 0).all()
    assert (depth[share == 0.05] > 0).all()
    assert (rgb[share == 0.05] == 0).any()
    assert (depth[share == 1.0] == 0).any()


def test_levels_are_logit_normal_about_mu():
    config = NoiseConfig(
        i2d_share=0, d2i_share=0, shared_share=0, rgb_mu=1.1, depth_mu=2.0, sigma=0.8
    )
    levels = draw_noise_levels(torch.ones(20_000), config, [seeded()] * 20_000)
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


def test_random_numbers_are_the_samples_own():
    """Of its number and the seed, whoever else is in the batch."""
    batch, alone = sample_generators(3, range(40, 44)), sample_generators(3, [42])
    draws = [torch.rand(3, generator=one) for one in batch]
    assert torch.equal(draws[2], torch.rand(3, generator=alone[0]))
    other_seed = torch.rand(3, generator=sample_generators(4, [42])[0])
    assert len({tuple(draw.tolist()) for draw in [*draws, other_seed]}) == 5
