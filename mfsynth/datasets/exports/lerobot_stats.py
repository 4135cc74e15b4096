"""Statistics as LeRobot's loaders normalise by them, by feature; of pictures, those of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Stats = Mapping[str, Mapping[str, Any]]
"""By feature and statistic, as JSON has them."""

_QUANTILES: Final = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES: Final = ("min", "max", "mean", "std", "count", *_QUANTILES)
"""Of the statistics of a feature."""
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
        for name, value in _of(grid, count=1).items()
    }


class OfEpisode:
    """Those of an episode whose frames come one after the other.

    It holds the values of all of its frames until the end, and of pictures their statistics.
    """

    def __init__(self) -> None:
        self._pictures: dict[str, list[Mapping[str, Any]]] = {}
        self._values: dict[str, list[NDArray[np.float64]]] = {}

    def add_picture(self, name: str, pixels: NDArray[Any], unit: float) -> None:
        """See `of_picture`."""
        self._pictures.setdefault(name, []).append(of_picture(pixels, unit))

    def add_value(self, name: str, value: ArrayLike) -> None:
        """A vector or array of finite numbers, of one shape in all frames."""
        self._values.setdefault(name, []).append(np.asarray(value, np.float64))

    def done(self) -> Stats:
        """Of values by component; of pictures, quantiles are means of theirs."""
        pictures = {name: _joined(parts) for name, parts in self._pictures.items()}
        return pictures | {name: _of(np.stack(values)) for name, values in self._values.items()}


def joined(parts: Sequence[Stats]) -> dict[str, dict[str, Any]]:
    """Of several: quantiles are means of theirs by counts, as LeRobot's; the rest is exact."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined([part[name] for part in parts if name in part]) for name in names}


def _of(values: NDArray[np.float64], count: int | None = None) -> dict[str, Any]:
    quantiles = np.quantile(values, [*_QUANTILES.values()], axis=0)
    return {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [len(values) if count is None else count],
        **dict(zip(_QUANTILES, quantiles.tolist(), strict=True)),
    }


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stacked = {name: np.array([part[name] for part in parts], np.float64) for name in parts[0]}
    counts = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    total = counts.sum()
    means = {name: (stacked[name] * counts).sum(axis=0) / total for name in ("mean", *_QUANTILES)}
    spread = stacked["std"] ** 2 + (stacked["mean"] - means["mean"]) ** 2
    return {
        "min": stacked["min"].min(axis=0).tolist(),
        "max": stacked["max"].max(axis=0).tolist(),
        "mean": means["mean"].tolist(),
        "std": np.sqrt((spread * counts).sum(axis=0) / total).tolist(),
        "count": [int(total)],
        **{name: means[name].tolist() for name in _QUANTILES},
    }
