"""What every source of training data gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mfsynth.geometry.rgbd import DepthMap, RgbImage, require_rgb, require_rgbd


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """An image with its caption and, where there is one, its depth.

    Attributes:
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth (distance along the optical axis, never along the ray),
            0 = invalid; None where the source has no depth. The unit may differ from sample to
            sample: the model divides every map by its own mean.
        caption: May be empty.
    """

    rgb: RgbImage
    depth: DepthMap | None
    caption: str

    def __post_init__(self) -> None:
        if self.depth is None:
            require_rgb(self.rgb)
        else:
            require_rgbd(self.rgb, self.depth)


class Source(Protocol):
    """A map-style data set: random access, the same sample for the same index in every process.

    Sources pickle without their images, so that data loading workers can have copies.
    """

    def __len__(self) -> int:
        """How many samples; at least one."""
        ...

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample `index`, from 0.

        Raises:
            IndexError: There is no such sample.
            MfsynthError: Its files can't be read; names them.
        """
        ...

    def captions(self) -> Iterator[str]:
        """The caption of every sample in order, without decoding images."""
        ...
