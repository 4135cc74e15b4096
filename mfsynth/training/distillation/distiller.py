"""Trains a student by the loop that trains models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from mfsynth.models.few_steps.files import FewSteps
from mfsynth.models.few_steps.pipeline import FewStepPipeline
from mfsynth.models.few_steps.student import (
    acting_as,
    add_student,
    student_weights,
)
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.prompts.prompt import PromptSource
from mfsynth.training.distillation.config import DistillConfig
from mfsynth.training.distillation.initial_student import start_as
from mfsynth.training.distillation.objective import PolicyObjective, PromptBatch
from mfsynth.training.identity import settings_of
from mfsynth.training.joint_model import JointModel
from mfsynth.training.loop import TrainingLoop
from mfsynth.training.optimisers import build_adamw
from mfsynth.training.progress import Log
from mfsynth.training.sample_grids import colour_depth, tile

Numbered = tuple[Sequence[int], Sequence[str]]
"""Prompts, with their numbers in the training stream."""

_COLUMNS = 4
_IMAGE_FIRST: dict[str, Any] = {"depth_start": 0.0, "refine_steps": 1, "depth_guidance_scale": 1.0}


class Distiller(TrainingLoop[PromptSource, Numbered, PromptBatch]):
    """Trains the student of a teacher, and adds it to the teacher's transformer.

    Every sample draws its noise, its segment and its prompt from the seed and its number in the
    stream, as in `Trainer`.

    Args:
        pipeline: The teacher's, on the device of this process.
        config: Of the distillation.
        few_steps: What the student is to be.
        prompts_digest: Of the source of prompts.
        processes: That train together.

    Raises:
        MfsynthError: `student.initial` can't be had, or is of other sizes.
    """

    def __init__(
        self,
        pipeline: ModalityForcingPipeline,
        config: DistillConfig,
        few_steps: FewSteps,
        prompts_digest: str,
        processes: Accelerator,
    ) -> None:
        transformer, optimiser = pipeline.transformer, config.optimiser
        pipeline.text_encoder.requires_grad_(False).to(processes.device)
        add_student(transformer, few_steps.rank, few_steps.alpha, few_steps.points)
        initial = None
        if config.student.initial is not None:
            initial = start_as(transformer, config, few_steps)
        for weight in student_weights(transformer).values():
            weight.requires_grad_(True)
            weight.data = weight.data.float()
        if optimiser.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        model = JointModel(transformer)
        alone = processes.num_processes == 1
        group = {
            "params": list(model.trained().values()),
            "lr": optimiser.adamw_learning_rate,
            "name": "adamw",
        }
        super().__init__(
            model,
            model if alone else processes.prepare_model(model),
            (build_adamw([group], optimiser.weight_decay),),
            optimiser,
            processes,
            _given(config, initial, few_steps, prompts_digest),
        )
        self._levels = few_steps.levels
        self._objective = PolicyObjective(
            pipeline, model, config.teacher, self._levels, config.seed, self._precision()
        )
        # Sums of errors and of samples by segment: of this process, since the last line.
        self._by_segment = self._no_errors()

    def _no_errors(self) -> Tensor:
        return torch.zeros(2, len(self._levels) - 1, device=self._processes.device)

    def _stream(self, data: PromptSource, log: Log) -> Iterator[Numbered]:
        config, processes = self._loop, self._processes
        steps = range(self.state.step * config.accumulate, config.total_steps * config.accumulate)
        for step in steps:
            row = (step * processes.num_processes + processes.process_index) * config.batch_size
            numbers = range(row, row + config.batch_size)
            yield numbers, [data.prompt(number).text for number in numbers]

    def _prepare(self, loaded: Sequence[Numbered], step: int) -> list[PromptBatch]:
        return [self._objective.prepare(prompts, numbers) for numbers, prompts in loaded]

    def _counts(self, batch: PromptBatch) -> dict[str, Tensor]:
        return {"policy": torch.tensor(len(batch.noise), device=batch.noise.device)}

    def _loss_sums(self, batch: PromptBatch) -> dict[str, Tensor]:
        losses = self._objective.losses(self._forward, batch)
        errors = torch.stack([losses.detach(), torch.ones_like(losses)])
        self._by_segment.index_add_(1, batch.segment, errors)
        return {"policy": losses.sum()}

    def _more_scalars(self) -> dict[str, float]:
        errors, counts = self._processes.reduce(self._by_segment, "sum").tolist()
        self._by_segment = self._no_errors()
        return {
            f"error/segment_{number}": error / count
            for number, (error, count) in enumerate(zip(errors, counts, strict=True), start=1)
            if count
        }

    def _precision(self) -> torch.autocast:
        bfloat16 = self._loop.precision == "bfloat16"
        return torch.autocast(self._processes.device.type, torch.bfloat16, enabled=bfloat16)


def _given(
    config: DistillConfig, initial: str | None, few_steps: FewSteps, prompts_digest: str
) -> dict[str, Any]:
    """What decides the weights beside rates; what it is given may move but must not change."""
    teacher = settings_of(config.teacher, but={"id", "revision"})
    student = settings_of(config.student, but={"initial"})
    if initial is not None:
        student["initial"] = initial
    return {
        **settings_of(config, but={"optimiser", "teacher", "student", "prompts"}),
        "teacher": teacher | {"digest": few_steps.teacher_digest},
        "student": student,
        "prompts": {"digest": prompts_digest},
        "levels": [*few_steps.levels],
    }


class StudentSampler:
    """Samples the same prompts from the same noise every time, student beside teacher.

    Args:
        pipeline: The teacher's, its transformer with a student that is trained.
        config: What to sample.
        few_steps: What the student is.
        prompts: Where prompts come from.
    """

    def __init__(
        self,
        pipeline: ModalityForcingPipeline,
        config: DistillConfig,
        few_steps: FewSteps,
        prompts: PromptSource,
    ) -> None:
        self._transformer = pipeline.transformer
        self._teacher = pipeline
        self._student = FewStepPipeline.around(pipeline)
        self._student.few_steps = few_steps
        self._student.set_progress_bar_config(disable=True)
        self._prompts = [prompts.prompt(number).text for number in range(config.samples.prompts)]
        self._plan = _IMAGE_FIRST | {
            "num_inference_steps": config.teacher.steps,
            "guidance_scale": config.teacher.guidance,
            "guidance_interval": config.teacher.guidance_interval,
        }
        self._taught: NDArray[np.uint8] | None = None

    def grids(self, _step: int, /) -> dict[str, NDArray[np.uint8]]:
        """`student` and `teacher`, pairs of image and depth, after any number of steps."""
        with acting_as(self._transformer, student=False):
            if self._taught is None:
                self._taught = self._grid(self._teacher, **self._plan)
            return {"student": self._grid(self._student), "teacher": self._taught}

    def _grid(self, pipeline: ModalityForcingPipeline, **plan: Any) -> NDArray[np.uint8]:
        pairs = pipeline(self._prompts, seeds=range(len(self._prompts)), **plan)
        rows = zip(pairs.rgb, map(colour_depth, pairs.depth), strict=True)
        return tile([np.hstack(row) for row in rows], _COLUMNS)
