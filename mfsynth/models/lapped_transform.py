"""RGB as coefficients of a lapped transform: a fixed, linear "autoencoder" for small models.

Plain patches have borders: each is predicted on its own, and errors show as a grid. The basis
functions of a lapped transform reach over the borders of their block and fade out there, so an
error of a coefficient is smooth; and few of them hold most of an image. The transform is
orthogonal: a pre-filter over each border between blocks, then a block-wise DCT (Tran, Liang and
Tu, "Lapped transform via time-domain pre- and post-filtering", IEEE Trans. Signal Processing 51,
2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mfsynth.models.token_codecs import patchify, unpatchify

# Luma, red–blue, green–magenta: orthonormal, so that noise stays white.
_COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])
_COLOURS = _COLOURS / _COLOURS.norm(dim=1, keepdim=True)

# An image's spectrum falls steeply. The gains take about the square root of that fall away, so
# that fine detail weighs more in the loss than its share of the energy, and coarse structure still
# emerges from the noise first.
_MEAN_GAIN, _DETAIL_GAIN, _DETAIL_SLOPE, _CHROMA_GAIN = 0.4, 1.1, 0.6, 1.5


@dataclass(frozen=True, slots=True)
class LappedTransformCodec:
    """The low frequencies of a lapped transform, more of luma than of chroma.

    A token holds, of its block, the coefficients (u, v) with u + v < bands, first of luma, then of
    both chroma channels: with n and m up to `patch`, n(n + 1)/2 + m(m + 1) values.

    Attributes:
        patch: Block size and pixels along a token's side; even.
        bands: n of luma and m of chroma; 2 · patch − 1 keeps everything.
    """

    patch: int
    bands: tuple[int, int]

    @property
    def channels(self) -> int:
        """Values of a token."""
        return len(_kept(self.patch, self.bands)[0])

    def encode(self, images: Tensor) -> Tensor:
        """Transform, drop high frequencies, and weigh the rest."""
        index, gain, colours = self._constants(images)
        mixed = torch.einsum("oc,bchw->bohw", colours, images)
        rows, columns = (_on(lapped_transform(n, self.patch), images) for n in images.shape[2:])
        return patchify(rows @ mixed @ columns.T, self.patch)[..., index] * gain

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Invert what `encode` kept."""
        index, gain, colours = self._constants(tokens)
        full = tokens.new_zeros(*tokens.shape[:2], 3 * self.patch**2)
        full[..., index] = tokens / gain
        rows, columns = (_on(lapped_transform(n * self.patch, self.patch), tokens) for n in grid)
        mixed = rows.T @ unpatchify(full, self.patch, grid) @ columns
        return torch.einsum("oc,bohw->bchw", colours, mixed)

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of what is kept, its gains, and the colours' matrix, where a tensor is."""
        index, gain = _kept(self.patch, self.bands)
        return index.to(like.device, non_blocking=True), _on(gain, like), _on(_COLOURS, like)


def _on(constant: Tensor, like: Tensor) -> Tensor:
    # A copy that waits for a GPU would wait for all that the GPU has to do before.
    return constant.to(like, non_blocking=True)


# What a first call in inference mode keeps must serve training, too: tensors of that mode can't
# take part in a backward pass.
@cache
@torch.inference_mode(False)
def lapped_transform(size: int, block: int) -> Tensor:
    """Build the orthogonal (size, size) matrix of the lapped transform of a row of pixels.

    Args:
        size: Pixels; a multiple of `block`. The ends are not filtered.
        block: Pixels of a block; even.
    """
    half = block // 2
    eye = torch.eye(half, dtype=torch.float64)
    flip = eye.flip(0)
    butterfly = torch.cat([torch.cat([eye, flip], 1), torch.cat([flip, -eye], 1)])
    rotation = flip @ _dct2(half).T @ _dct4(half) @ flip
    border = butterfly @ torch.block_diag(eye, rotation) @ butterfly / 2
    filters = torch.eye(size, dtype=torch.float64)
    if size > block:
        borders = [border] * (size // block - 1)
        filters[half:-half, half:-half] = torch.block_diag(*borders)
    return (torch.block_diag(*[_dct2(block)] * (size // block)) @ filters).float()


@cache
@torch.inference_mode(False)
def _kept(patch: int, bands: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Positions among the 3 · patch² coefficients of a block, and their gains."""
    frequency = torch.arange(patch)
    frequency = (frequency[:, None] + frequency).flatten()
    detail = _DETAIL_GAIN * frequency.clamp(min=1).float() ** _DETAIL_SLOPE
    gain = torch.where(frequency == 0, _MEAN_GAIN, detail)
    index, gains = [], []
    for channel, (band, weight) in enumerate(
        zip((bands[0], bands[1], bands[1]), (1.0, _CHROMA_GAIN, _CHROMA_GAIN), strict=True)
    ):
        inside = torch.nonzero(frequency < band).flatten()
        index.append(channel * patch**2 + inside)
        gains.append(weight * gain[inside])
    return torch.cat(index), torch.cat(gains)


def _dct2(size: int) -> Tensor:
    k = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def _dct4(size: int) -> Tensor:
    k = torch.arange(size, dtype=torch.float64) + 0.5
    return torch.cos(math.pi / size * k[:, None] * k) * math.sqrt(2 / size)
