"""What the depth stream sees at pixels without depth.

The loss is off there in any case. What stands there must still be something, and it must not tell
which pixels are valid: at inference all of them are the model's to make. Three ways to compare:

- ``nearest``: the depth of the nearest valid pixel, noised like the rest.
- ``noise``: noise alone, and a channel tells which pixels hold a signal; at inference all do.
- ``prediction``: what the moving average of the model itself predicts there, noised like the rest.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mfsynth.geometry.filling import fill_nearest
from mfsynth.models.codecs import DepthTokens, patchify, unpatchify

InvalidDepth = Literal["nearest", "noise", "prediction"]


def fill_tokens_nearest(tokens: DepthTokens, patch: int, grid: tuple[int, int]) -> Tensor:
    """Give every invalid pixel the value of the nearest valid one of its sample.

    Args:
        tokens: (B, N, p²) on the CPU.
        patch: p.
        grid: (rows, columns) of tokens.

    Returns:
        (B, N, p²); samples without any valid pixel as they were.
    """
    maps = unpatchify(tokens.values, patch, grid)[:, 0]
    valid = unpatchify(tokens.valid, patch, grid)[:, 0]
    filled = [
        torch.from_numpy(fill_nearest(values.numpy(), mask.numpy())) if mask.any() else values
        for values, mask in zip(maps, valid, strict=True)
    ]
    return patchify(torch.stack(filled)[:, None], patch)
