from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.models.token_codecs import DepthCodec, PatchCodec, contract, expand, unpatchify


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
