"""The pipeline of a model with few-step weights: RGB in a few forwards, then depth of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.arguments import find_mode, require_numbers
from mfsynth.models.few_steps.files import (
    UNUSED_IN_FEW_STEPS,
    FewSteps,
    read_few_steps,
    read_weights,
)
from mfsynth.models.few_steps.policy import Policy
from mfsynth.models.few_steps.student import (
    acting_as,
    add_student,
    load_student,
    student_weights,
    switch,
    weights_digest,
)
from mfsynth.models.outputs import ModalityForcingPipelineOutput
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.sampling import Predict
from mfsynth.models.schedules import Mode, Schedule
from mfsynth.models.tensor_files import discrepancies, read_headers


class FewStepPipeline(ModalityForcingPipeline):
    """A pipeline whose joint mode makes images by few-step weights, without depth tokens.

    Depth is then the model's own, of the finished image: the second pass, `refine_steps`. The
    other modes are the model's own, too.

    Attributes:
        few_steps: What the weights are of; None before `adopt`.
    """

    few_steps: FewSteps | None = None

    @classmethod
    def around(cls, pipeline: ModalityForcingPipeline) -> FewStepPipeline:
        """A pipeline of the same models, and with the same settings."""
        parts = pipeline.components
        settings = {
            key: value
            for key, value in pipeline.config.items()
            if key not in parts and not key.startswith("_")
        }
        return cls(**parts, **settings)

    def adopt(self, path: Path) -> None:
        """Take few-step weights in, before the transformer is compiled or offloaded.

        Raises:
            MfsynthError: They are damaged, or of another model.
        """
        few_steps = read_few_steps(path)
        if weights_digest(self.transformer) != few_steps.teacher_digest:
            raise MfsynthError(
                f"model.few_steps: {path} was distilled from other weights ({few_steps.teacher}); "
                "give those as model.id, or distil this model"
            )
        weights = read_weights(path)
        add_student(self.transformer, few_steps.rank, few_steps.alpha, few_steps.points)
        expected = {
            name: tuple(weight.shape) for name, weight in student_weights(self.transformer).items()
        }
        if differences := discrepancies(expected, read_headers(path)):
            raise MfsynthError(
                f"model.few_steps: {path} doesn't fit this model: {'; '.join(differences)}; fetch "
                "or distil it again"
            )
        load_student(self.transformer, weights)
        dtype = self.transformer.x_embedder.weight.dtype
        for weight in student_weights(self.transformer).values():
            weight.data = weight.data.to(dtype)
        self.use(few_steps)

    def use(self, few_steps: FewSteps) -> None:
        """Sample by the student that the transformer has already."""
        self.few_steps = few_steps
        switch(self.transformer, is_student=False)

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        mode: Mode | str = Mode.JOINT,
        **sampling: Any,
    ) -> ModalityForcingPipelineOutput:
        """Sample a batch; see `ModalityForcingPipeline`.

        In `joint`, steps, guidance and second pass are by default what the weights are for.

        Raises:
            MfsynthError: The weights can't be sampled so.
        """
        if find_mode(mode) is Mode.JOINT and self.few_steps is not None:
            sampling.setdefault("num_inference_steps", self.few_steps.steps)
            sampling.setdefault("guidance_scale", 1.0)
            sampling.setdefault("refine_steps", 1)
            sampling.setdefault("depth_guidance_scale", None)
            sampling.setdefault("depth_start", 0.0)
            require_numbers(**sampling)
            self.few_steps.check(
                steps=sampling["num_inference_steps"],
                guidance=(sampling["guidance_scale"], sampling["depth_guidance_scale"]),
                refine_steps=sampling["refine_steps"],
                refine_start=sampling.get("refine_start", 1.0),
                depth_start=sampling["depth_start"],
                unused={name: sampling[name] for name in UNUSED_IN_FEW_STEPS if name in sampling},
            )
        return super().__call__(prompt, mode=mode, **sampling)

    def _roll(
        self,
        predict: Predict,
        rgb: Tensor,
        depth: Tensor,
        nodes: Schedule,
        advance: Callable[[], Any],
        callback: Callable[..., dict[str, Tensor]] | None,
    ) -> tuple[Tensor, Tensor]:
        is_joint = nodes.rgb[0] == nodes.depth[0] == 1
        if not is_joint or self.few_steps is None:
            return super()._roll(predict, rgb, depth, nodes, advance, callback)
        is_velocity = self.transformer.config.rgb_prediction == "velocity"
        with acting_as(self.transformer, student=True):
            for step, (start, end) in enumerate(pairwise(self.few_steps.levels), start=1):
                output, _ = predict(rgb, None, start, 1.0)
                first, last = (rgb.new_full((len(rgb),), level) for level in (start, end))
                policy = Policy.of(output, rgb, first, last, is_velocity=is_velocity)
                is_last = step == self.few_steps.steps
                rgb = policy.clean_at(last) if is_last else policy.roll(rgb, last)
                advance()
                if callback is not None:
                    levels, tokens = (0.0 if is_last else end, 1.0), {"rgb": rgb, "depth": depth}
                    rgb = callback(self, step - 1, levels, tokens).get("rgb", rgb)
        return rgb, depth
