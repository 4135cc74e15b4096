"""What the depth stream sees at pixels without depth.

The loss is off there in any case. What stands there must still be something, and it must not tell
which pixels are valid: at inference all of them are the model's to make. Three ways to compare:

- `nearest`: the depth of the nearest valid pixel, noised like the rest.
- `noise`: noise alone, and a channel tells which pixels hold a signal; at inference all do.
- `prediction`: what the moving average of the model itself predicts there, noised like the rest.

All of them divide depth by the mean of the map filled as by `nearest`, as inference does
with depth that it is given: the mean of the valid pixels alone scatters with where they happen to
be, and the model would have that scatter to guess. Where depth is known in few places, the filled
map's mean scatters, too; its harmonic mean (`optimiser.depth_normalisation`) does less than half
as much (`benchmarks/normalisation.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mfsynth.geometry.filling import fill_nearest


def fill_invalid(depth: Tensor) -> Tensor:
    """Give every invalid pixel the depth of the nearest valid one of its map.

    Args:
        depth: (B, H, W) on the CPU, in any unit; 0 marks invalid pixels.

    Returns:
        (B, H, W); maps without any valid pixel as they were.
    """
    filled = [
        torch.from_numpy(fill_nearest(one.numpy(), mask.numpy())) if mask.any() else one
        for one, mask in zip(depth, depth > 0, strict=True)
    ]
    return torch.stack(filled)
