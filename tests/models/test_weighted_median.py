"""Edges of depth are brought to those of the image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.models.weighted_median import near_jumps, weighted_median

RADIUS = 5


@pytest.fixture
def edge() -> tuple[torch.Tensor, torch.Tensor]:
    """Depth (1, 32, 32) with a step at column 16, and its image."""
    columns = torch.arange(32.0).expand(1, 32, 32)
    depth = torch.where(columns < 16, 1.0, 2.0)
    image = torch.where(columns < 16, 0.2, 0.7)[:, None].expand(1, 3, 32, 32)
    return depth, image


def test_a_soft_edge_is_where_the_image_has_it(edge):
    depth, image = edge
    soft = torch.nn.functional.avg_pool2d(depth[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
    assert (soft - depth).abs().max() > 0.3
    torch.testing.assert_close(weighted_median(soft, image, RADIUS), depth, rtol=0.02, atol=0)
    shifted = depth.roll(2, dims=2)
    shifted[:, :, :2] = 1.0
    assert torch.equal(weighted_median(shifted, image, RADIUS), depth)


def test_slanted_surfaces_and_edges_that_are_right_stay(edge):
    depth, image = edge
    assert torch.equal(weighted_median(depth, image, RADIUS), depth)
    slant = torch.linspace(1, 1.3, 32).expand(1, 32, 32)
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(weighted_median(slant, noise, RADIUS), slant)


def test_a_pixel_like_no_other_keeps_its_depth(edge):
    depth, image = edge
    image = image.clone()
    image[0, :, 10, 15] = torch.tensor([1.0, 0.0, 1.0])
    odd = depth.clone()
    odd[0, 10, 15] = 1.7
    assert weighted_median(odd, image, RADIUS)[0, 10, 15] == 1.7


@given(seed=st.integers(0, 50), holes=st.floats(0, 1))
def test_depths_are_of_their_windows_and_holes_stay(seed, holes):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(2, 16, 12, generator=generator) + 0.5
    depth[torch.rand(depth.shape, generator=generator) < holes] = 0
    images = torch.rand(2, 3, 16, 12, generator=generator)
    found = weighted_median(depth, images, RADIUS)
    assert torch.equal(found > 0, depth > 0)
    assert torch.isin(found, depth).all()
    assert torch.equal(found[~near_jumps(depth, RADIUS)], depth[~near_jumps(depth, RADIUS)])
    assert torch.equal(weighted_median(depth[1:], images[1:], RADIUS), found[1:])
