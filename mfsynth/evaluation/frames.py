"""Images with ground truth, in sets that are read one image at a time."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass

from mfsynth.errors import MfsynthError
from mfsynth.evaluation.protocols import Protocol
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.sources.base import FiniteSource


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """An image with its ground truth, both of the same field of view.

    Attributes:
        name: Where it is, for messages.
        rgb: uint8 (H, W, 3).
        depth: float32 (h, w), z-depth, 0 = invalid, with what a data set's own mask leaves out.
            In metres, but for runs: theirs is in the run's unit.
    """

    name: str
    rgb: RgbImage
    depth: DepthMap


class Frames(typing.Protocol):
    """A sequence of frames; each is read when it is asked for."""

    def __len__(self) -> int:
        """How many; at least one."""
        ...

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`, from 0.

        Raises:
            MfsynthError: Its files can't be read; names them.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceFrames:
    """Implements `Frames`: the items of a source, whose depth is taken for true.

    Attributes:
        source: With images and depth.
        limit: How many of the items at most, the first ones; None for all.
    """

    source: FiniteSource
    limit: int | None = None

    def __len__(self) -> int:
        return min(len(self.source), self.limit or len(self.source))

    def __getitem__(self, index: int) -> Frame:
        item = self.source[index]
        if item.rgb is None or item.depth is None:
            raise MfsynthError(
                f"{item.name}: no image with depth, so nothing to evaluate on; take it out of data"
            )
        return Frame(item.name, item.rgb, item.depth)


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Frames with the protocol that they are scored by.

    Attributes:
        name: As it stands in results.
        protocol: What counts.
        frames: The images and their ground truth.
        truth_model: `id` and `revision` of the model that made the depth; None where it was
            measured or rendered.
    """

    name: str
    protocol: Protocol
    frames: Frames
    truth_model: Mapping[str, str] | None = None
