"""What every source of training data gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RgbImage = NDArray[np.uint8]
DepthMap = NDArray[np.float32]
Mask = NDArray[np.bool_]


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
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(f"rgb is {self.rgb.dtype} {self.rgb.shape}, not uint8 (H, W, 3)")
        if self.depth is None:
            return
        if self.depth.dtype != np.float32 or self.depth.shape != self.rgb.shape[:2]:
            raise ValueError(
                f"depth is {self.depth.dtype} {self.depth.shape}, not float32 {self.rgb.shape[:2]}"
            )
        # A comparison with NaN is false, so this finds it, too.
        if not np.all((self.depth >= 0) & (self.depth < np.inf)):
            raise ValueError("depth has negative or non-finite values; invalid pixels are 0")


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
