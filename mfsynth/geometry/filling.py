"""Filling of invalid pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def fill_nearest(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give every invalid pixel the value of the nearest valid one.

    Args:
        values: (H, W).
        valid: (H, W), True at one pixel at least.

    Returns:
        (H, W).
    """
    _, labels = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(labels.max() + 1, values.dtype)
    by_label[labels[valid]] = values[valid]
    return by_label[labels]
