"""Named speed presets of the sampler; `docs/sampling.md` has what each costs and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEFAULT_PRESET: Final = "balanced"

# Every preset names every setting: what a preset means must not depend on another one.
SAMPLER_PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # The settings of the released model.
    "reference": {
        "steps": 50,
        "guidance": 4.0,
        "depth_guidance": 4.0,
        "guidance_interval": (0.0, 1.0),
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 1.0,
        "refine_steps": 0,
        "refine_start": 1.0,
    },
    "balanced": {
        "steps": 30,
        "guidance": 4.0,
        "depth_guidance": 4.0,
        "guidance_interval": (0.0, 1.0),
        "log2_alpha": 5.0,
        "depth_step_share": 0.3,
        "depth_start": 0.99,
        "refine_steps": 0,
        "refine_start": 1.0,
    },
    "fast": {
        "steps": 16,
        "guidance": 4.0,
        "depth_guidance": 1.0,
        "guidance_interval": (0.3, 1.0),
        "log2_alpha": 5.0,
        "depth_step_share": 0.3,
        "depth_start": 0.97,
        "refine_steps": 0,
        "refine_start": 1.0,
    },
    # With `model.few_steps`: RGB in four forwards, which have guidance in them, then depth in one.
    "distilled": {
        "steps": 4,
        "guidance": 1.0,
        "depth_guidance": 1.0,
        "guidance_interval": (0.0, 1.0),
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 1.0,
        "refine_steps": 1,
        "refine_start": 1.0,
    },
}
