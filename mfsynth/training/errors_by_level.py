"""What a training's errors are at each noise level.

A loss over all levels hides that a model is bad at some of them: low ones hardly count in it. So
each sample's error of x̂, without any weight, is summed by level, beside the error of doing nothing,
which takes the noisy signal for the clean one. A model whose error is above that makes worse what
it is given, and the last steps of sampling with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

EDGES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the levels; the lowest bin is (0, 0.05], the highest (0.95, 1]."""

STREAMS = ("rgb", "depth")

_NAMES = [f"{low:.2f}-{high:.2f}" for low, high in zip((0, *EDGES), (*EDGES, 1), strict=True)]


def no_errors(device: torch.device) -> Tensor:
    """The sums before any sample: (streams, 3, levels), of x̂, of doing nothing, and the samples."""
    return torch.zeros(len(STREAMS), 3, len(_NAMES), device=device)


def sum_by_level(error: Tensor, untouched: Tensor, t: Tensor, counts: Tensor) -> Tensor:
    """Sums of one stream, (3, levels).

    Args:
        error: (B,) mean square of x̂ − x.
        untouched: (B,) mean square of z − x.
        t: (B,) noise level.
        counts: (B,) bool, whether a sample counts.
    """
    values = torch.stack([error, untouched, torch.ones_like(error)])
    level = torch.bucketize(t, torch.tensor(EDGES).to(t.device, non_blocking=True))
    sums = values.new_zeros(3, len(_NAMES))
    return sums.index_add_(1, level, torch.where(counts, values, 0.0))


def scalars(sums: Tensor) -> Mapping[str, float]:
    """Means by their tags, of the levels that occurred.

    Args:
        sums: As `no_errors`, of all processes.
    """
    found: dict[str, float] = {}
    for stream, (errors, untouched, counts) in zip(STREAMS, sums.tolist(), strict=True):
        found |= _means(f"error/{stream}", errors, counts)
        found |= _means(f"error_of_doing_nothing/{stream}", untouched, counts)
    return found


def _means(tag: str, sums: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
    return {
        f"{tag}_t_{name}": value / count
        for name, value, count in zip(_NAMES, sums, counts, strict=True)
        if count
    }
