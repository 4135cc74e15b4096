from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.geometry import seam_ratio
from mfsynth.models.token_codecs import (
    DepthCodec,
    PatchCodec,
    contract,
    expand,
    overlap_add,
    patchify,
    unpatchify,
)


def random_depth(seed: int, shape=(2, 16, 24)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 4 + 0.1


@given(z=st.floats(1e-3, 1e4))
def test_contraction_is_inverted_and_keeps_order(z):
    value = torch.tensor([z, z * 1.01], dtype=torch.float64)
    contracted = contract(value)
    assert 0 < contracted[0] < contracted[1] < 2
    torch.testing.assert_close(expand(contracted), value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("z", [2.0, 2.5, float("inf"), 0.0, -0.3])
def test_values_without_a_preimage_become_invalid(z):
    assert expand(torch.tensor([z])).item() == 0


NORMALISATIONS = ("mean", "harmonic_mean")


@given(
    seed=st.integers(0, 1000),
    scale=st.floats(1e-3, 1e3),
    normalisation=st.sampled_from(NORMALISATIONS),
)
def test_a_constant_scale_of_depth_changes_no_token(seed, scale, normalisation):
    codec, depth = DepthCodec(8, 1.0, 0.4, normalisation), random_depth(seed)
    torch.testing.assert_close(
        codec.encode(depth * scale), codec.encode(depth), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_invalid_pixels_are_marked_and_do_not_move_the_scale(normalisation):
    codec, depth = DepthCodec(8, normalisation=normalisation), random_depth(0)
    sparse = depth.clone()
    hole = torch.zeros_like(depth, dtype=torch.bool)
    hole[:, ::3, ::2] = True
    sparse[hole] = 0
    tokens = codec.encode(sparse)
    assert (unpatchify(tokens, 8, (2, 3))[:, 0][hole] == 0).all()
    decoded = codec.decode(tokens, (2, 3))
    ratio = decoded[~hole] / sparse[~hole]
    for sample in (ratio[: len(ratio) // 2], ratio[len(ratio) // 2 :]):
        assert sample.std() / sample.mean() < 1e-4


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_map_without_any_depth_gives_finite_tokens(normalisation):
    tokens = DepthCodec(8, normalisation=normalisation).encode(torch.zeros(1, 16, 16))
    assert (tokens == 0).all()


def test_depth_is_divided_by_the_mean_that_the_codec_says():
    depth = torch.tensor([0.0, 1.0, 2.0, 4.0]).repeat(16).reshape(1, 8, 8)
    for normalisation, mean in (("mean", 7 / 3), ("harmonic_mean", 12 / 7)):
        codec = DepthCodec(8, normalisation=normalisation)
        expected = torch.where(depth > 0, depth / mean, 0.0)
        torch.testing.assert_close(codec.decode(codec.encode(depth), (1, 1)), expected)


def test_patches_are_put_together_as_they_were_cut():
    images = torch.randn(2, 3, 16, 24)
    codec = PatchCodec(8)
    tokens = codec.encode(images)
    assert tokens.shape == (2, 6, 192)
    assert torch.equal(codec.decode(tokens, (2, 3)), images)
    assert torch.equal(tokens[0, 1].reshape(3, 8, 8), images[0, :, :8, 8:16])


def cut_windows(maps: torch.Tensor, patch: int) -> torch.Tensor:
    """The overlapping windows of (B, H, W) maps, anything outside of them."""
    half = patch // 2
    padded = torch.nn.functional.pad(maps[:, None], (half,) * 4, value=7.0)
    return torch.nn.functional.unfold(padded, 2 * patch, stride=patch).mT


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (3, 5)])
@pytest.mark.parametrize("patch", [2, 8, 16])
def test_windows_that_agree_give_their_map(patch, grid):
    maps = torch.randn(2, grid[0] * patch, grid[1] * patch)
    tokens = overlap_add(cut_windows(maps, patch), grid)
    assert tokens.shape == (2, grid[0] * grid[1], patch**2)
    torch.testing.assert_close(tokens, patchify(maps[:, None], patch), atol=1e-5, rtol=0)


def test_the_weights_of_windows_sum_to_1_everywhere():
    tokens = overlap_add(torch.ones(1, 15, 4 * 64), (3, 5))
    torch.testing.assert_close(tokens, torch.ones(1, 15, 64), atol=1e-6, rtol=0)


def test_a_window_reaches_half_a_patch_around_its_own_and_fades_out_there():
    windows = torch.zeros(1, 15, 4 * 64)
    windows[0, 7] = 1
    reached = unpatchify(overlap_add(windows, (3, 5)), 8, (3, 5))[0, 0]
    inside = torch.zeros(24, 40, dtype=torch.bool)
    inside[4:20, 12:28] = True
    assert torch.equal(reached > 0, inside)
    middle = reached[12, 12:28]
    assert torch.allclose(middle, middle.flip(0), atol=1e-6)
    assert (middle[:8].diff() > 0).all()
    assert middle[0] < 0.02


def test_windows_that_disagree_leave_a_ramp_where_patches_leave_a_jump():
    """Each token a plane of its own, unlike any other: the worst there is."""
    generator = torch.Generator().manual_seed(0)
    planes = 0.2 * torch.randn(2, 64, 3, generator=generator)

    def maps(side: int, put: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        steps = (torch.arange(side) - (side - 1) / 2) / 8
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        basis = torch.stack([torch.ones_like(rows), rows, columns]).flatten(1)
        return unpatchify(put(planes @ basis), 8, (8, 8))[:, 0].exp()

    plain = maps(8, lambda tokens: tokens)
    faded = maps(16, lambda tokens: overlap_add(tokens, (8, 8)))
    for one, other in zip(plain.numpy(), faded.numpy(), strict=True):
        assert seam_ratio(other, 8) < 1.8 < 6 < seam_ratio(one, 8)


def test_every_value_of_a_window_has_its_share_of_the_gradient():
    windows = torch.randn(1, 6, 4 * 64, requires_grad=True)
    overlap_add(windows, (2, 3)).sum().backward()
    gradient = windows.grad.reshape(6, 16, 16)
    # What lies beyond the map's border is nobody's.
    assert (gradient[0, :4] == 0).all()
    assert (gradient[0, 4:12, 4:12] > 0).all()
    assert gradient.sum().item() == pytest.approx(16 * 24, rel=1e-5)
