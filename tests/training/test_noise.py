"""How noise levels and noise are drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.training.config import NoiseConfig
from mfsynth.training.noise import (
    add_noise,
    draw_noise_levels,
    sample_generators,
    torch_seed,
)


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


def test_all_bits_of_a_seed_count():
    seeds = [3, 3 + 2**32, 3 + 2**40, 3 + 2**63, 3 + 2**80]
    first = [torch.rand(3, generator=seeded(torch_seed(seed))) for seed in seeds]
    noise = [torch.rand(3, generator=one) for s in seeds for one in sample_generators(s, [0, 1])]
    assert len({tuple(draw.tolist()) for draw in first}) == len(seeds)
    assert len({tuple(draw.tolist()) for draw in noise}) == 2 * len(seeds)
    # What was trained with it can be trained again.
    assert torch.equal(first[0], torch.rand(3, generator=seeded(3)))


MIXED = NoiseConfig(
    i2d_share=0.25,
    d2i_share=0.15,
    shared_share=0.3,
    depth_mu=3.0,
    depth_low_share=0.5,
    depth_low_mu=-0.5,
    sigma=0.1,
)


def test_depths_level_has_two_parts_where_it_is_its_own():
    """With a small sigma the parts don't overlap, and a level tells the part that it is of."""
    rgb, depth = draw_noise_levels(torch.ones(20_000), MIXED, [seeded()] * 20_000)
    own = depth > 0
    low = torch.logit(depth) < 1.25
    i2d = rgb == 0
    assert low[i2d].float().mean().item() == pytest.approx(0.5, abs=0.02)
    # 0.3 of the others share their level.
    assert low[own & ~i2d].float().mean().item() == pytest.approx(0.35, abs=0.02)
    for part, mu in ((low, -0.5), (~low, 3.0)):
        logits = torch.logit(depth[own & part])
        assert logits.mean().item() == pytest.approx(mu, abs=0.01)
        assert logits.std().item() == pytest.approx(0.1, abs=0.01)
    both = torch.stack([torch.logit(rgb), torch.logit(depth)])[:, own & ~i2d & low]
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.05


@given(seed=st.integers(0, 2**32), low=st.floats(0, 1), shared=st.floats(0, 1), i2d=st.floats(0, 1))
def test_low_levels_of_depth_change_no_other_draw(seed, low, shared, i2d):
    """Nor shared levels, nor which samples are given what, nor what a sample draws later."""
    plain = NoiseConfig(i2d_share=i2d, d2i_share=0, shared_share=shared, depth_mu=3.0)
    mixed = plain.model_copy(update={"depth_low_share": low, "depth_low_mu": -0.5})
    (rgb, depth, later), (mixed_rgb, mixed_depth, mixed_later) = (
        (*draw_noise_levels(torch.ones(64), config, generators), torch.rand(2, generator=last))
        for config in (plain, mixed)
        for generators in [sample_generators(seed, range(64))]
        for last in generators[-1:]
    )
    assert torch.equal(mixed_rgb, rgb)
    assert torch.equal(mixed_later, later)
    lowered = torch.logit(depth) - torch.logit(mixed_depth)
    assert bool(((lowered.abs() < 1e-3) | ((lowered - 3.5).abs() < 1e-3)).all())
    line = torch.logit(depth) - torch.logit(rgb)
    assert not ((line - (3.0 - 1.1)).abs() < 1e-3)[(rgb > 0) & (lowered > 1)].any()
    if low == 1:
        assert (lowered > 1)[rgb == 0].all()


def test_a_samples_levels_are_its_own_whoever_is_in_its_batch():
    whole = draw_noise_levels(torch.ones(8), MIXED, sample_generators(5, range(8)))
    part = draw_noise_levels(torch.ones(3), MIXED, sample_generators(5, range(4, 7)))
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[4:7], other)
