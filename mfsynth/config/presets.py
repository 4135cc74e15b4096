"""Named presets of the sampler; `docs/reference/sampling.md` has what each costs and gives.

In all of them the depth that is kept is the model's own for the finished image, by a second pass
over depth alone. They differ in how the image comes about:

- `reference`: as the demo of the released model. Image and depth tokens together in all steps,
  guidance everywhere, as many steps in the second pass as in the first.
- `balanced`, `fast`: image and depth tokens together as well, in fewer steps, with guidance where
  it pays.
- `image_then_depth`: the image without depth tokens, then depth in one forward. For models whose
  training had images alone as well (`image_only_share` of `mfsynth train`), as the released one's
  had not.
- `distilled`: as `image_then_depth`, by the few-step weights of `model.few_steps`, in four forwards
  that have guidance in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEFAULT_PRESET: Final = "balanced"

# Guidance at high noise takes variety and at low noise does nothing (arXiv 2404.07724).
_WHERE_GUIDANCE_PAYS: Final = (0.3, 0.9)

# Every preset names every setting: what a preset means must not depend on another one.
SAMPLER_PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "reference": {
        "steps": 50,
        "guidance": 4.0,
        "depth_guidance": 4.0,
        "guidance_interval": (0.0, 1.0),
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 1.0,
        "refine_steps": 50,
        "refine_start": 1.0,
    },
    "balanced": {
        "steps": 30,
        "guidance": 4.0,
        "depth_guidance": 4.0,
        "guidance_interval": _WHERE_GUIDANCE_PAYS,
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 1.0,
        "refine_steps": 4,
        "refine_start": 1.0,
    },
    "fast": {
        "steps": 16,
        "guidance": 4.0,
        "depth_guidance": 1.0,
        "guidance_interval": _WHERE_GUIDANCE_PAYS,
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 1.0,
        "refine_steps": 2,
        "refine_start": 1.0,
    },
    "image_then_depth": {
        "steps": 20,
        "guidance": 4.0,
        "depth_guidance": 1.0,
        "guidance_interval": _WHERE_GUIDANCE_PAYS,
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 0.0,
        "refine_steps": 1,
        "refine_start": 1.0,
    },
    "distilled": {
        "steps": 4,
        "guidance": 1.0,
        "depth_guidance": 1.0,
        "guidance_interval": (0.0, 1.0),
        "log2_alpha": 5.0,
        "depth_step_share": 0.0,
        "depth_start": 0.0,
        "refine_steps": 1,
        "refine_start": 1.0,
    },
}
