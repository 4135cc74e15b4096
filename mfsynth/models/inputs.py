"""What a roll-out starts from: the map that a mode is given, the grid of tokens, noise."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.schedules import Mode

# A condition with less is not the dense depth that the model was trained on.
_MIN_GIVEN_DEPTH = 0.5


def given_maps(
    mode: Mode, batch: int, image: NDArray[np.uint8] | None, depth: NDArray[np.float32] | None
) -> NDArray[np.generic] | None:
    """The images or depth maps that a mode is given, checked; None in `joint`.

    Args:
        mode: What is generated.
        batch: How many samples.
        image: (B, H, W, 3), for `i2d`.
        depth: (B, H, W), for `d2i`; 0 marks holes.

    Raises:
        MfsynthError: They are missing, too few or too many, not finite, or mostly holes.
    """
    if mode is Mode.JOINT:
        return None
    name, given = ("image", image) if mode is Mode.IMAGE_TO_DEPTH else ("depth", depth)
    if given is None:
        raise MfsynthError(f"mode {mode} needs `{name}`")
    if len(given) != batch:
        raise MfsynthError(f"{batch} prompts but `{name}` holds {len(given)} maps")
    if not np.isfinite(given).all():
        raise MfsynthError(f"`{name}` holds values that are not finite; 0 marks no depth")
    if mode is Mode.DEPTH_TO_IMAGE:
        share = np.greater(given, 0).mean(axis=(1, 2)).min()
        if share < _MIN_GIVEN_DEPTH:
            raise MfsynthError(
                f"`depth` is valid in {share:.0%} of a map's pixels; mode d2i needs dense "
                f"depth, at least {_MIN_GIVEN_DEPTH:.0%}"
            )
    return given


def require_depth_steps(
    mode: Mode, depth_start: float, refine_steps: int, refine_start: float
) -> None:
    """Refuses a roll-out in which depth would stay noise.

    Raises:
        MfsynthError: Depth has no tokens in any step, and no second pass from noise makes it.
    """
    if mode is Mode.JOINT and depth_start == 0 and not (refine_steps and refine_start == 1):
        raise MfsynthError(
            "`depth_start` 0 leaves depth to the second pass: give `refine_steps` and leave "
            "`refine_start` at 1"
        )


def token_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """How many tokens there are down and across an image.

    Raises:
        MfsynthError: The size is not a multiple of the patch.
    """
    if height % patch or width % patch:
        raise MfsynthError(
            f"size {width}x{height} does not divide into {patch}x{patch} patches; "
            f"use multiples of {patch}"
        )
    return height // patch, width // patch


def draw_noise(seeds: Sequence[int], tokens: int, channels: Sequence[int]) -> list[Tensor]:
    """Standard normal noise of several streams, each sample's from its own seed alone.

    Args:
        seeds: B seeds in [0, 2**64); all of their bits count.
        tokens: N of each stream.
        channels: C of each stream.

    Returns:
        (B, N, C) float32 for each stream, on the CPU; `docs/format.md` says how to make them
        elsewhere.

    Raises:
        MfsynthError: A seed is no integer, negative or too large.
    """
    return [
        torch.from_numpy(
            np.stack([_normal(seed, stream, tokens * count) for seed in seeds])
        ).unflatten(1, (tokens, count))
        for stream, count in enumerate(channels)
    ]


def _normal(seed: int, stream: int, count: int) -> NDArray[np.float32]:
    """Normal numbers, the same on every platform and in every version of a library.

    Words of Philox-4×64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
    whose key is seed and stream, by Box and Muller in float64: libraries keep their generators'
    words, and change what they make normal numbers of.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise MfsynthError(f"seed {seed} is not an integer in [0, 2**64); give another")
    key = np.array([seed, stream], np.uint64)
    words = np.random.Philox(key=key).random_raw(count + count % 2).reshape(-1, 2) >> np.uint64(11)
    # In (0, 1], so that its logarithm is finite.
    radius = np.sqrt(-2 * np.log((words[:, 0] + np.uint64(1)) * 2.0**-53))
    angle = 2 * np.pi * (words[:, 1] * 2.0**-53)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.ravel()[:count].astype(np.float32)
