"""What a roll-out starts from: what a mode is given, the grid of tokens, noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.geometry.filling import fill_nearest
from mfsynth.models.images import Given, Letterbox, read_depth, read_images
from mfsynth.models.schedules import Mode
from mfsynth.models.token_codecs import DepthCodec, RGBCodec
from mfsynth.models.weighted_median import weighted_median

# A condition with less is not the dense depth that the model was trained on.
_MIN_GIVEN_DEPTH = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a mode is given, in its own size, and how the model sees it.

    Attributes:
        images: (B, H, W, 3) in `i2d`, None elsewhere.
        maps: (B, H, W) depth in `d2i`, None elsewhere.
        box: Between their size and the model's.
    """

    images: NDArray[np.uint8] | None
    maps: NDArray[np.float32] | None
    box: Letterbox

    @classmethod
    def of(
        cls,
        mode: Mode,
        batch: int,
        image: Given | None,
        depth: Given | None,
        frame: tuple[int, int],
    ) -> Condition:
        """Read what is given.

        Args:
            mode: What is generated.
            batch: How many samples.
            image: For `i2d`; see `mfsynth.models.images.read_images`.
            depth: For `d2i`; see `mfsynth.models.images.read_depth`.
            frame: Rows and columns of what the model sees.

        Raises:
            MfsynthError: It is missing, too little or too much, no images or no depth, of quite
                other proportions than the frame, or mostly holes.
        """
        match mode:
            case Mode.IMAGE_TO_DEPTH:
                images = read_images(_one_each("image", image, mode), "image")
                _require_batch("image", len(images), batch)
                return cls(images, None, Letterbox.fit(images.shape[1:3], frame, "image"))
            case Mode.DEPTH_TO_IMAGE:
                maps = read_depth(_one_each("depth", depth, mode), "depth")
                _require_batch("depth", len(maps), batch)
                _require_dense(maps)
                return cls(None, maps, Letterbox.fit(maps.shape[1:3], frame, "depth"))
            case Mode.JOINT:
                return cls(None, None, Letterbox(frame, frame))

    def tokens(
        self, rgb_noise: Tensor, depth_noise: Tensor, rgb_codec: RGBCodec, depth_codec: DepthCodec
    ) -> tuple[Tensor, Tensor]:
        """What a roll-out starts from: clean tokens of what is given, and noise for the rest."""
        device = rgb_noise.device
        if self.images is not None:
            clean = torch.tensor(self.box.frame_images(self.images), device=device)
            clean = clean.permute(0, 3, 1, 2).to(rgb_noise.dtype) / 127.5 - 1
            return rgb_codec.encode(clean), depth_noise
        if self.maps is not None:
            framed = self.box.frame_depth(self.maps)
            filled = np.stack([fill_nearest(one, one > 0) for one in framed])
            return rgb_noise, depth_codec.encode(torch.tensor(filled, device=device))
        return rgb_noise, depth_noise

    def pair(
        self,
        rgb_tokens: Tensor,
        depth_tokens: Tensor,
        rgb_codec: RGBCodec,
        depth_codec: DepthCodec,
        grid: tuple[int, int],
        median_radius: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) images in [0, 1] and (B, H, W) depth, on the grid of what is given.

        Args:
            rgb_tokens: (B, N, C), the end of a roll-out.
            depth_tokens: (B, N, p²), likewise.
            rgb_codec: Of RGB tokens.
            depth_codec: Of depth tokens.
            grid: (rows, columns) of tokens.
            median_radius: See `weighted_median`; 0 for depth as it is.
        """
        device = rgb_tokens.device
        if self.images is not None:
            images = _as_shares(self.images, device)
            seen = _as_shares(self.box.frame_images(self.images), device)
        else:
            seen = (rgb_codec.decode(rgb_tokens, grid).float().clamp(-1, 1) + 1) / 2
            images = self.box.unframe(seen)
        if self.maps is not None:
            return images, torch.tensor(self.maps, device=device)
        depth = depth_codec.decode(depth_tokens, grid)
        if median_radius:
            depth = weighted_median(depth, seen, median_radius)
        return images, self.box.unframe_depth(depth)


def _as_shares(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3) bytes as (B, 3, H, W) in [0, 1]."""
    return torch.tensor(images, device=device).permute(0, 3, 1, 2) / 255


def _one_each(name: str, given: Given | None, mode: Mode) -> Given:
    if given is None:
        raise MfsynthError(f"mode {mode} needs `{name}`; give one for each prompt")
    return given


def _require_batch(name: str, count: int, batch: int) -> None:
    if count != batch:
        raise MfsynthError(f"{batch} prompts but `{name}` holds {count} maps; give one each")


def _require_dense(maps: NDArray[np.float32]) -> None:
    share = np.greater(maps, 0).mean(axis=(1, 2)).min()
    if share < _MIN_GIVEN_DEPTH:
        raise MfsynthError(
            f"`depth` is valid in {share:.0%} of a map's pixels; mode d2i needs dense depth, at "
            f"least {_MIN_GIVEN_DEPTH:.0%}"
        )


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
        (B, N, C) float32 for each stream, on the CPU; how to make them elsewhere:
        `docs/reference/format.md`.

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
