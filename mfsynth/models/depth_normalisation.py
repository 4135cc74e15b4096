"""Ways to normalise depth by name, for settings: known before torch is imported."""

from __future__ import annotations

from typing import Literal

DepthNormalisation = Literal["mean", "harmonic_mean"]
"""By what of its valid pixels a depth map is divided. The harmonic mean is that of 1/z, inverted:
what is far counts for little, so it hardly depends on which part of a background is known."""
