from __future__ import annotations

import pytest
import torch

from mfsynth.models.lapped_transform import LappedTransformCodec, lapped_transform


def smooth_images(seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic")


@pytest.mark.parametrize(("size", "block"), [(8, 8), (64, 8), (48, 16)])
def test_the_transform_is_orthogonal(size, block):
    matrix = lapped_transform(size, block)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size), atol=1e-5, rtol=0)


def test_a_constant_row_has_only_means():
    coefficients = lapped_transform(64, 8) @ torch.ones(64)
    means = torch.arange(64) % 8 == 0
    torch.testing.assert_close(coefficients[means], torch.full((8,), 8**0.5))
    torch.testing.assert_close(coefficients[~means], torch.zeros(56), atol=1e-5, rtol=0)


def test_with_all_frequencies_every_image_comes_back():
    images = torch.rand(2, 3, 24, 16) * 2 - 1
    codec = LappedTransformCodec(8, (15, 15))
    tokens = codec.encode(images)
    assert tokens.shape == (2, 6, 192)
    torch.testing.assert_close(codec.decode(tokens, (3, 2)), images, atol=1e-4, rtol=0)


def test_few_coefficients_hold_a_smooth_image():
    images, codec = smooth_images(), LappedTransformCodec(8, (7, 4))
    tokens = codec.encode(images)
    assert tokens.shape == (2, 48, 48)
    assert codec.channels == 48
    error = codec.decode(tokens, (6, 8)) - images
    assert error.square().mean() < 2e-3 * images.square().mean()


def test_decoded_tokens_encode_to_themselves():
    codec = LappedTransformCodec(8, (7, 4))
    tokens = torch.randn(2, 6, codec.channels)
    torch.testing.assert_close(codec.encode(codec.decode(tokens, (3, 2))), tokens)


def test_an_error_of_a_token_fades_out_over_the_border_of_its_block():
    """What plain patches cannot do: the jump at the border is small against the error inside."""
    codec = LappedTransformCodec(8, (7, 4))
    tokens = torch.zeros(1, 9, codec.channels)
    tokens[0, 4, 0] = 1
    middle = codec.decode(tokens, (3, 3))[0, 0, 12]
    assert middle[7] > 0.2 * middle[11] > 0
    assert (middle.diff().abs() < 0.6 * middle.max()).all()


def test_a_first_call_in_inference_mode_leaves_what_a_backward_pass_can_use():
    # Sizes of no other test: what is kept of them is made here.
    codec = LappedTransformCodec(6, (5, 3))
    with torch.inference_mode():
        codec.decode(codec.encode(torch.zeros(1, 3, 30, 42)), (5, 7))
    images = torch.randn(1, 3, 30, 42, requires_grad=True)
    tokens = codec.encode(images)
    codec.decode(tokens, (5, 7)).square().sum().backward()
    assert images.grad.abs().sum() > 0
