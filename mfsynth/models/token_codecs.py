"""Between maps and tokens: depth patches, RGB patches, RGB latents of a FLUX.2 autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mfsynth.models.depth_normalisation import DepthNormalisation


def patchify(maps: Tensor, patch: int) -> Tensor:
    """Cut (B, C, H, W) into row-major tokens (B, H/p · W/p, C · p²), channel-major inside."""
    batch, channels, height, width = maps.shape
    rows, columns = height // patch, width // patch
    cells = maps.reshape(batch, channels, rows, patch, columns, patch)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def unpatchify(tokens: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """Invert `patchify` for a grid of (rows, columns)."""
    rows, columns = grid
    cells = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * patch, columns * patch)


def overlap_add(windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn overlapping windows of one map into its patches: tokens without seams between them.

    A window is twice as high and as wide as its token's patch and has it in the middle. Along each
    axis it fades out as sin² while its neighbour's fades in as cos², so at every pixel the weights
    sum to 1, and no jump is left at the borders of patches. At the map's border there is no
    neighbour, and nothing fades.

    Args:
        windows: (B, N, 4 · p²) with p even, each row-major.
        grid: (rows, columns) with rows · columns = N, tokens in row-major order.

    Returns:
        (B, N, p²), as `patchify` cuts the map of the windows' weighted sum.
    """
    side = math.isqrt(windows.shape[-1])
    patch = side // 2
    rows, columns = (_fading(tokens, patch, windows.device) for tokens in grid)
    weights = torch.einsum("ry,cx->rcyx", rows, columns).reshape(-1, side**2)
    size = ((grid[0] + 1) * patch, (grid[1] + 1) * patch)
    total = functional.fold((windows * weights).mT, size, kernel_size=side, stride=patch)
    half = patch // 2
    return patchify(total[..., half:-half, half:-half], patch)


def _fading(tokens: int, patch: int, device: torch.device) -> Tensor:
    """(tokens, 2 · patch) weights of the windows in a row."""
    steps = torch.arange(patch, device=device) + 0.5
    rising = torch.sin(steps * (math.pi / 2 / patch)).square()
    weights = torch.cat([rising, 1 - rising]).repeat(tokens, 1)
    weights[0, :patch] = 1
    weights[-1, patch:] = 1
    return weights


def contract(z: Tensor) -> Tensor:
    """Contract [0, ∞) to [0, 2) as mip-NeRF 360 does: z up to 1, 2 − 1/z above."""
    return torch.where(z <= 1, z, 2 - 1 / z.clamp(min=1))


def expand(z: Tensor) -> Tensor:
    """Invert `contract`; values outside of (0, 2) have no preimage and become 0 (invalid)."""
    far = 1 / (2 - z.clamp(max=2 - 1e-6))
    return torch.where((z > 0) & (z < 2), torch.where(z <= 1, z, far), 0.0)


def _mean(depth: Tensor, valid: Tensor) -> Tensor:
    count = valid.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return (depth * valid).sum(dim=(1, 2), keepdim=True) / count


def _harmonic_mean(depth: Tensor, valid: Tensor) -> Tensor:
    return 1 / _mean(torch.where(valid, 1 / depth, 0.0), valid)


_MEANS: dict[DepthNormalisation, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "harmonic_mean": _harmonic_mean,
}
"""Of (B, H, W) depth where it is valid: (B, 1, 1)."""


@dataclass(frozen=True, slots=True)
class DepthCodec:
    """Depth maps to pixel-space tokens and back (arXiv 2606.13676; no autoencoder).

    A sample is divided by the mean of its own valid pixels, contracted, and standardised as
    (z − mean) / std. The released model has the arithmetic mean, and mean 0 and std 1 after it.

    Attributes:
        patch: Pixels along a token's side.
        mean: Of the contracted depth.
        std: Of the contracted depth.
        normalisation: The mean that a sample is divided by.
    """

    patch: int
    mean: float = 0.0
    std: float = 1.0
    normalisation: DepthNormalisation = "mean"

    def encode(self, depth: Tensor) -> Tensor:
        """Encode (B, H, W) z-depth in any unit, 0 = invalid, to (B, N, p²); 0 where invalid."""
        valid = depth > 0
        unit = _MEANS[self.normalisation](depth, valid)
        z = contract(depth / unit.clamp(min=torch.finfo(depth.dtype).tiny))
        values = torch.where(valid, (z - self.mean) / self.std, 0.0)
        return patchify(values[:, None], self.patch)

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode (B, N, p²) to (B, H, W) float32 scale-invariant z-depth; 0 marks invalid."""
        z = unpatchify(tokens.float(), self.patch, grid)[:, 0] * self.std + self.mean
        return expand(z)


class RGBCodec(Protocol):
    """Images in [−1, 1], (B, 3, H, W), to tokens (B, N, C) and back."""

    def encode(self, images: Tensor) -> Tensor:
        """Return clean tokens."""

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return images; values may leave [−1, 1] a little."""


@dataclass(frozen=True, slots=True)
class PatchCodec:
    """RGB as plain pixel patches, for small models that need no autoencoder."""

    patch: int

    def encode(self, images: Tensor) -> Tensor:
        """Cut images into patches."""
        return patchify(images, self.patch)

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put patches together."""
        return unpatchify(tokens, self.patch, grid)


class LatentCodec:
    """RGB as latents of an `AutoencoderKLFlux2`, normalised by its batch-norm statistics."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._latent_patch: int = vae.config.patch_size[0]

    @property
    def patch(self) -> int:
        """Image pixels along a token's side."""
        return self._latent_patch * 2 ** (len(self._vae.config.block_out_channels) - 1)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        bn = self._vae.bn
        return bn.running_mean, torch.sqrt(bn.running_var + self._vae.config.batch_norm_eps)

    def encode(self, images: Tensor) -> Tensor:
        """Encode to the mode of the posterior."""
        images = images.to(self._vae.dtype)
        latents = in_parts(lambda part: self._vae.encode(part).latent_dist.mode(), images)
        mean, std = self._statistics()
        return (patchify(latents, self._latent_patch) - mean) / std

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode latents."""
        mean, std = self._statistics()
        latents = unpatchify(tokens.to(self._vae.dtype) * std + mean, self._latent_patch, grid)
        return in_parts(lambda part: self._vae.decode(part).sample, latents)


def in_parts(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Apply a function to a whole batch, or to halves and so on where memory asks for that.

    Raises:
        torch.OutOfMemoryError: A single row does not fit.
    """
    size = len(batch)
    while True:
        try:
            return torch.cat([function(part) for part in batch.split(size)])
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # Out here the traceback is gone, and what it held is free.
        size = -(-size // 2)
