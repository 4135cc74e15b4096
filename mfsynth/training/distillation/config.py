"""Typed configuration of a distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from mfsynth.config import load_settings
from mfsynth.config.base import (
    Count,
    Fraction,
    Index,
    LocalPath,
    NonEmpty,
    Pair,
    Settings,
    Unset,
    require_rising,
)
from mfsynth.config.schema import PromptsConfig
from mfsynth.training.config import LoopConfig


class TeacherConfig(Settings):
    """The model that is imitated, and how it is asked.

    Attributes:
        id: `embedded`, a folder, or a hub id.
        revision: Of a hub id; None for its newest.
        steps: Of the plan that is imitated. At its last level above 0 the clean image is taken as
            it is: nearer to 0 a velocity is a model's error divided by little.
        guidance: Scale of classifier-free guidance, which the student then has in it.
        guidance_interval: Lowest and highest noise level at which guidance acts.
        points: Levels of a segment, drawn for each sample, at which it is asked for its velocity.
    """

    id: NonEmpty
    revision: NonEmpty | None = None
    steps: Count = 20
    guidance: Annotated[float, Field(ge=0)]
    guidance_interval: Pair[Fraction] = (0.0, 1.0)
    points: Count = 2

    @model_validator(mode="after")
    def _rising_interval(self) -> Self:
        require_rising("guidance_interval", self.guidance_interval)
        return self


class StudentConfig(Settings):
    """What is learnt: adapters on the teacher, and a head that says a policy.

    Attributes:
        steps: Forwards of RGB that an image takes.
        points: Levels of a segment at which a forward says the clean image.
        rank: Of the adapters.
        alpha: Their scale is alpha / rank.
        initial: Few-step weights that it starts as, of the same points and at most this rank, of
            this teacher or another: a folder in the teacher's, or any that `mfsynth distill` wrote.
            If unset, it starts as the teacher.
    """

    steps: Count
    points: Count = 8
    rank: Count
    alpha: Count
    initial: Unset[NonEmpty] = None


class DistillOptimiserConfig(LoopConfig):
    """One phase, moved by AdamW.

    Attributes:
        steps: Of training.
    """

    steps: Count

    @property
    def phases(self) -> tuple[int, ...]:
        """The only one."""
        return (self.steps,)


class DistilledSamplesConfig(Settings):
    """What is sampled at every checkpoint, for TensorBoard.

    Attributes:
        prompts: How many, the first of the source.
    """

    prompts: Count = 8


class DistillConfig(Settings):
    """Everything that decides a distillation.

    Attributes:
        name: Of the few-step weights.
        seed: Of prompts, weights and noise.
        teacher: What is imitated.
        prompts: All the data there is.
        student: What is learnt.
        optimiser: Steps and rates.
        samples: What is sampled at every checkpoint.
        output: Folder of checkpoints and of the few-step weights.
    """

    name: str
    seed: Index
    teacher: TeacherConfig
    prompts: PromptsConfig
    student: StudentConfig
    optimiser: DistillOptimiserConfig
    samples: DistilledSamplesConfig = DistilledSamplesConfig()
    output: LocalPath

    @model_validator(mode="after")
    def _fewer_steps(self) -> Self:
        if self.student.steps >= self.teacher.steps:
            raise ValueError(
                f"student.steps is {self.student.steps}, not less than the {self.teacher.steps} of "
                "teacher.steps; there is nothing to save"
            )
        return self


def load_distill_config(name_or_path: str, overrides: Sequence[str] = ()) -> DistillConfig:
    """Load a distillation's configuration: the name of one in configs/distill/, a path, or a URL.

    Raises:
        MfsynthError: One line that names the file, the key, and what to do.
    """
    return load_settings(DistillConfig, "configs/distill", name_or_path, overrides)
