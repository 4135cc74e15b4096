"""Settings of a depth estimator that looks at what the model has made."""

from __future__ import annotations

from typing import Literal

from mfsynth.config.base import NonEmpty, Settings, Unset


class DepthEstimatorConfig(Settings):
    """Which depth estimator, and in what precision.

    Attributes:
        id: `embedded`, a folder, or a hub id.
        kind: Whose files these are: `transformers`, `moge`, `depth_anything_3` or `embedded` (what
            `mfsynth train estimator` writes); `auto` tells by its `config.json`.
        revision: The revision of a hub id; None for its newest.
        dtype: The type of weights and activations.
    """

    id: NonEmpty = "embedded"
    kind: Literal["auto", "embedded", "transformers", "moge", "depth_anything_3"] = "auto"
    revision: Unset[NonEmpty] = None
    dtype: Literal["float32", "bfloat16"] = "float32"
