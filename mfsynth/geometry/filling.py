"""Filling of invalid pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def fill_nearest(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every invalid pixel the depth of the nearest valid one.

    Args:
        depth: (H, W) in any unit; 0 marks invalid pixels, and at least one pixel is valid.

    Returns:
        (H, W) without a 0.
    """
    invalid = depth <= 0
    _, labels = cv2.distanceTransformWithLabels(
        invalid.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(labels.max() + 1, depth.dtype)
    by_label[labels[~invalid]] = depth[~invalid]
    return by_label[labels]
