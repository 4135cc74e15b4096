"""What an estimator says of trusted images, for the checks that look at it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from mfsynth.checks.calibration_files import UsedEstimator
from mfsynth.evaluation.calibration.config import PERTURBED
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics
from mfsynth.geometry.rgbd import DepthMap, RgbImage

Estimate = Callable[[Sequence[RgbImage]], Iterator[DepthEstimate]]
"""Of images of one size."""

_BATCH = 16
# Of the stand-in: the mean relative error of depth, and the deviation of the focal length.
_ERROR = 0.05


def open_estimator(name: str) -> tuple[UsedEstimator, Estimate]:
    """Load an estimator.

    Args:
        name: `embedded`, or a folder that `mfsynth train estimator` wrote.

    Raises:
        MfsynthError: There is no such estimator, or its weights are not whole.
    """
    # Here, because torch is slow to import and only these need it.
    from mfsynth.models.estimators.embedded import estimate_depth, load_estimator

    model = load_estimator(name)

    def estimate(images: Sequence[RgbImage]) -> Iterator[DepthEstimate]:
        for at in range(0, len(images), _BATCH):
            for depth in estimate_depth(model, np.stack(images[at : at + _BATCH])):
                everywhere = np.ones(depth.shape, bool)
                yield DepthEstimate(depth, everywhere, EstimateKind.SCALE_INVARIANT_Z)

    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key}\0".encode() + value.numpy().tobytes())
    return UsedEstimator(name=name, revision=digest.hexdigest()), estimate


def perturbed() -> UsedEstimator:
    """What is recorded of the stand-in."""
    return UsedEstimator(name=PERTURBED, stands_in=True)


def perturbed_copy(
    depth: DepthMap, camera: Intrinsics | None, rng: np.random.Generator
) -> DepthEstimate:
    """The trusted depth with a smooth error of 5 % on average, in place of an estimate.

    It knows what no estimator does, so what a check sees by it is an upper bound. Where the camera
    is known, it comes with a focal length that is off by 5 %, too.
    """
    coarse = rng.standard_normal((4, 4)).astype(np.float32)
    height, width = depth.shape
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    factor = np.exp(_ERROR * smooth / np.abs(smooth).mean()).astype(np.float32)
    seen = None
    if camera is not None:
        times = float(np.exp(_ERROR * rng.standard_normal()))
        seen = replace(camera, fx=times * camera.fx, fy=times * camera.fy)
    return DepthEstimate(depth * factor, depth > 0, EstimateKind.SCALE_INVARIANT_Z, intrinsics=seen)
