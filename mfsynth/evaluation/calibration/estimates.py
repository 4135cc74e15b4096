"""What an estimator says of trusted images, for the checks that look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from mfsynth.checks.base import CheckedPair
from mfsynth.checks.calibration import UsedEstimator
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.evaluation.calibration.config import PERTURBED
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics
from mfsynth.geometry.rgbd import DepthMap

Estimate = Callable[[Sequence[CheckedPair]], Iterator[DepthEstimate]]
"""Of the images of pairs of one size, whose cameras are told where they are known."""

_BATCH = 16
# Of the stand-in: the mean relative error of depth, and the deviation of the focal length.
_ERROR = 0.05


def open_estimator(name: str) -> tuple[UsedEstimator, Estimate]:
    """Load an estimator, on a GPU if there is one.

    Args:
        name: `embedded`, a folder, or a hub id: the `estimator.id` of a run.

    Raises:
        MfsynthError: There is no such estimator, or its files are not what they should be.
    """
    # Here, because torch is slow to import and only these need it.
    import torch

    from mfsynth.models.estimators.catalogue import estimator_info
    from mfsynth.models.estimators.opening import open_estimator as load

    config = DepthEstimatorConfig(id=name)
    info = estimator_info(config)
    used = UsedEstimator(
        name=name,
        revision=info.revision,
        dtype=config.dtype,
        counts_infinite=info.gives is EstimateKind.AFFINE_INVARIANT_DISPARITY,
    )
    estimator = load(config, "cuda" if torch.cuda.is_available() else "cpu")

    def estimate(pairs: Sequence[CheckedPair]) -> Iterator[DepthEstimate]:
        for at in range(0, len(pairs), _BATCH):
            batch = pairs[at : at + _BATCH]
            cameras = [pair.intrinsics for pair in batch]
            yield from estimator(np.stack([pair.rgb for pair in batch]), cameras)

    return used, estimate


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
