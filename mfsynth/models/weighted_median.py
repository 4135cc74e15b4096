"""Depth whose edges are the image's: the weighted median of what lies around.

A small network knows about where an edge is, and its depth goes from near to far over a few pixels
there. The image has the edge to the pixel: what lies on one side of it looks alike, and is of one
depth.

Source: Ma et al., "Constant time weighted median filtering for stereo matching and beyond", ICCV
2013; there of all pixels, here of those near a jump of depth.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

# Relative, within a pixel's window, from which on it is near a jump.
_JUMP = 0.15
# Between those of a window's pixels that are looked at: the others say the same.
_STEP = 2
# Of colours in [0, 1], at which a neighbour's weight has fallen to exp(-1/2).
_ALIKE = 0.08
_OWN = 1e-3


def weighted_median(depth: Tensor, images: Tensor, radius: int) -> Tensor:
    """Depth with each pixel near a jump the median of its window, weighted by likeness of colour.

    Args:
        depth: (B, H, W) float32 z-depth in any unit; 0 where it is invalid, which it stays.
        images: (B, 3, H, W) in [0, 1].
        radius: Of the square windows, in pixels, from 1.

    Returns:
        (B, H, W); each depth is one of its window.
    """
    batch, row, column = near_jumps(depth, radius).nonzero(as_tuple=True)
    steps = torch.arange(-radius, radius + 1, _STEP, device=depth.device)
    down, right = (of.flatten() for of in torch.meshgrid(steps, steps, indexing="ij"))
    # Its own too, if hardly of any weight: something to take where nothing looks like it.
    down, right = (torch.cat([of.new_zeros(1), of]) for of in (down, right))
    around = batch[:, None], row[:, None] + radius + down, column[:, None] + radius + right
    depths = pad(depth, (radius,) * 4)[around]
    colours = pad(images, (radius,) * 4).permute(0, 2, 3, 1)[around]
    unlike = (colours - colours[:, :1]).square().sum(dim=2)
    weights = torch.exp(unlike / (-2 * _ALIKE**2)) * (depths > 0)
    weights[:, 0] = _OWN
    # Stable: which of equal depths comes first must not hang on what else is in the batch.
    depths, order = depths.sort(dim=1, stable=True)
    sums = weights.gather(1, order).cumsum(dim=1)
    middle = (sums < sums[:, -1:] / 2).sum(dim=1, keepdim=True)
    return depth.index_put((batch, row, column), depths.gather(1, middle)[:, 0])


def near_jumps(depth: Tensor, radius: int) -> Tensor:
    """Where depth is valid and its window has a jump, (B, H, W) bool."""
    size = 2 * radius + 1
    valid = depth > 0
    far = max_pool2d(depth, size, 1, radius)
    near = -max_pool2d(torch.where(valid, -depth, -torch.inf), size, 1, radius)
    return valid & (far > (1 + _JUMP) * near)
