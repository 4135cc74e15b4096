"""An RGB-D pair as a data set gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import DepthKind, IntrinsicsSource
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage
from mfsynth.shards.labels import InstanceMask, ObjectPose
from mfsynth.shards.records import CandidateRef


@dataclass(frozen=True, slots=True, eq=False)
class RGBDSample:
    """One RGB-D pair with what is known about it.

    Attributes:
        ref: The candidate that it comes from; what it knows is the sample's, too: `sample_id`,
            `candidate`, `seed`, `prompt`, `prompt_id` and `slots`.
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth in units of `depth_kind`, 0.0 = invalid.
        valid: bool (H, W), depth > 0.
        intrinsics: float64 (3, 3) pinhole matrix in pixels (OpenCV axes, integer pixel
            centres), or None if unknown.
        intrinsics_source: Where `intrinsics` came from, or None.
        camera: The preset that `intrinsics` are assumed to be of, or None.
        depth_kind: What the numbers in `depth` mean; metres only for the metric kinds.
        scores: Score of every check; NaN where the check abstained, or the run has none.
        mode: `joint`, `i2d` or `d2i`.
        model_id: Model that made the pair.
        licence: What the pair may be used for; None in runs of earlier formats.
        source_licence: What the item of the source that it was made of may be used for; None in
            runs without a source, or from before it was kept. Licences of model and estimator are
            those of its run (`RGBDDataset.run_of`).
        camera_to_world: float64 (4, 4), pose of the camera as its source has it (metres, OpenCV
            axes); None where it has none.
        episode: What its source calls the episode that the view is of; None of a view by itself.
        frame: Its number in the episode, or None.
        timestamp: Seconds in the episode, or None.
        sensor: float32 (H, W), metres as a sensor returned them, or would have, 0.0 = invalid;
            None where there are none, or the data set was opened without labels. So are the next
            three.
        mask: uint16 (H, W), numbers of instances, 0 = none.
        objects: The objects of the view, with their numbers in the mask.
        others: Other files of its source's sample, by suffix.
    """

    ref: CandidateRef
    rgb: RgbImage
    depth: DepthMap
    valid: Mask
    intrinsics: NDArray[np.float64] | None
    intrinsics_source: IntrinsicsSource | None
    camera: str | None
    depth_kind: DepthKind
    scores: Mapping[str, float]
    mode: str
    model_id: str
    licence: str | None
    source_licence: str | None = None
    camera_to_world: NDArray[np.float64] | None = None
    episode: str | None = None
    frame: int | None = None
    timestamp: float | None = None
    sensor: DepthMap | None = None
    mask: InstanceMask | None = None
    objects: tuple[ObjectPose, ...] = ()
    others: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def sample_id(self) -> str:
        """`[0-9a-z_-]+`, unique in the data set."""
        return self.ref.sample_id

    @property
    def candidate(self) -> int:
        """Number of the candidate in the run."""
        return self.ref.candidate

    @property
    def seed(self) -> int:
        """Noise seed."""
        return self.ref.seed

    @property
    def prompt(self) -> str:
        """Text that the pair was asked for with."""
        return self.ref.prompt

    @property
    def prompt_id(self) -> str:
        """Stable hash of the prompt's text."""
        return self.ref.prompt_id

    @property
    def slots(self) -> Mapping[str, tuple[str, ...]]:
        """What the prompt took for each slot of its library."""
        return self.ref.slots
