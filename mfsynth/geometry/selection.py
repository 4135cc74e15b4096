"""Which pixels of a pair of depth maps count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def compared_values(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two maps' values at the pixels compared.

    Args:
        prediction: Depth of any shape; finite where compared.
        target: The same shape; positive and finite where compared.
        valid: bool, the same shape: the pixels compared.

    Returns:
        Two float64 vectors of the same length, at least one long.

    Raises:
        ValueError: Shapes differ, no pixel is compared, or a value compared is out of range.
    """
    if not prediction.shape == target.shape == valid.shape:
        raise ValueError(
            "prediction, target and mask must have one shape, "
            f"got {prediction.shape}, {target.shape} and {valid.shape}"
        )
    if valid.dtype != np.bool_:
        raise ValueError(f"the mask must be bool, got {valid.dtype}")
    p = prediction[valid].astype(np.float64)
    g = target[valid].astype(np.float64)
    if p.size == 0:
        raise ValueError("no pixel is valid")
    if not np.isfinite(p).all():
        raise ValueError("the prediction isn't finite at some valid pixel")
    if not (np.isfinite(g) & (g > 0)).all():
        raise ValueError("the target isn't positive and finite at some valid pixel")
    return p, g
