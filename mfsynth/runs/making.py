"""What a model makes of candidates, one function a mode.

A mode takes the model, the sampler's settings, candidates and their encoded prompts, and says what
kind of depth came out. What it needs besides the prompts (images for `i2d`, depth maps for `d2i`)
is in the candidates' items. `MODES` has them by their names in a configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.schema import SamplerConfig
from mfsynth.geometry import DepthEstimate, DepthKind
from mfsynth.prompts import derive_seed
from mfsynth.runs.plan import Candidate


class Pairs(Protocol):
    """What a model gives: `rgb` uint8 (B, H, W, 3), `depth` float32 (B, H, W), 0 = invalid."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


class Pipeline(Protocol):
    """The part of `mfsynth.models.pipeline.ModalityForcingPipeline` that a run needs."""

    def encode_prompts(self, prompts: Sequence[str], batch_size: int) -> Any:
        """Encode prompts, so many at a time; rows of the result go into `prompt_embeds`."""

    def __call__(
        self,
        *,
        prompt_embeds: Any,
        seeds: Sequence[int],
        mode: str,
        image: NDArray[np.uint8] | None = None,
        num_inference_steps: int,
        guidance_scale: float,
        **sampling: Any,
    ) -> Pairs:
        """Sample a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pairs that were made together.

    Attributes:
        candidates: B of them.
        rgb: uint8 (B, H, W, 3).
        depth: float32 (B, H, W), 0 = invalid.
        depth_kind: What the numbers in `depth` mean.
        joint_depth: What was made with the images, where `depth` took its place, float32
            (B, H, W); None where there is one depth.
        estimates: What the run's estimator says of the images; None where there is none.
    """

    candidates: Sequence[Candidate]
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    depth_kind: DepthKind
    joint_depth: NDArray[np.float32] | None = None
    estimates: Sequence[DepthEstimate] | None = None

    def first(self, count: int) -> Batch:
        """Only the first so many pairs."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        of_all = ("depth_kind",)
        mine = {k: v[:count] for k, v in values.items() if v is not None and k not in of_all}
        return replace(self, **mine)


Mode = Callable[[Pipeline, SamplerConfig, Sequence[Candidate], Any], Batch]


def joint(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """Image and depth, both out of noise."""
    made = pipeline(
        prompt_embeds=prompt_embeds,
        seeds=[candidate.seed for candidate in candidates],
        mode="joint",
        **sampler.pipeline_arguments(),
    )
    return Batch(candidates, made.rgb, made.depth, DepthKind.SCALE_INVARIANT_Z)


def image_then_depth(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """An image out of noise, then its depth by an estimator; of `mfsynth.models.two_models`."""
    made: Any = pipeline(
        prompt_embeds=prompt_embeds,
        seeds=[candidate.seed for candidate in candidates],
        mode="joint",
        **sampler.pipeline_arguments(),
    )
    return Batch(candidates, made.rgb, made.depth, made.depth_kind, estimates=made.estimates)


MODES: Final[Mapping[str, Mode]] = {"joint": joint}


def with_own_depth(pipeline: Pipeline, batch: Batch, prompt_embeds: Any, steps: int) -> Batch:
    """A batch whose depth is what the model gives for the finished images.

    Args:
        pipeline: The model that made the batch.
        batch: Its pairs, with depth that was made with the images.
        prompt_embeds: Of their candidates.
        steps: Denoising steps; without guidance.
    """
    again = pipeline(
        prompt_embeds=prompt_embeds,
        # Noise of its own: two depths from the same noise agree too easily.
        seeds=[derive_seed(candidate.seed, "i2d") for candidate in batch.candidates],
        mode="i2d",
        image=batch.rgb,
        height=batch.rgb.shape[1],
        width=batch.rgb.shape[2],
        num_inference_steps=steps,
        guidance_scale=1.0,
    )
    return replace(batch, depth=again.depth, joint_depth=batch.depth)
