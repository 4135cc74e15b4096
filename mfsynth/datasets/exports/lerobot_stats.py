"""Statistics as LeRobot's loaders normalise by them, by feature; of pictures, those of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Stats = Mapping[str, Mapping[str, Any]]
"""By feature and statistic, as JSON has them."""

_QUANTILES: Final = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
# As many pixels a side, about; small pictures have all of theirs.
_GRID = 150


def of_picture(pixels: NDArray[Any], unit: float) -> dict[str, Any]:
    """Of one picture (H, W, C), by channel: lists of the shape (C, 1, 1).

    Args:
        pixels: Stored values.
        unit: What they are divided by.
    """
    step = max(1, max(pixels.shape[:2]) // _GRID)
    grid = pixels[::step, ::step].reshape(-1, pixels.shape[2]).astype(np.float64) / unit
    return {
        name: value if name == "count" else np.reshape(value, (-1, 1, 1)).tolist()
        for name, value in _of(grid).items()
    }


def of_values(values: ArrayLike) -> dict[str, Any]:
    """Of one vector, or array, by component."""
    return _of(np.asarray(values, np.float64)[None])


def joined(parts: Sequence[Stats]) -> dict[str, dict[str, Any]]:
    """Of several frames: quantiles are bounds of theirs, the rest is exact."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined([part[name] for part in parts if name in part]) for name in names}


def _of(values: NDArray[np.float64]) -> dict[str, Any]:
    quantiles = np.quantile(values, [*_QUANTILES.values()], axis=0)
    return {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [1],
        **dict(zip(_QUANTILES, quantiles.tolist(), strict=True)),
    }


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stacked = {name: np.array([part[name] for part in parts], np.float64) for name in parts[0]}
    counts = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    total = counts.sum()
    mean = (stacked["mean"] * counts).sum(axis=0) / total
    spread = stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2
    return {
        "min": stacked["min"].min(axis=0).tolist(),
        "max": stacked["max"].max(axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt((spread * counts).sum(axis=0) / total).tolist(),
        "count": [int(total)],
        **{
            name: getattr(stacked[name], "min" if share <= 0.5 else "max")(axis=0).tolist()
            for name, share in _QUANTILES.items()
        },
    }
