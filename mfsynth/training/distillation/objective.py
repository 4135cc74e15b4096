"""From prompts to the loss of a student: policy imitation on its own trajectory.

Source: Chen et al., "pi-Flow", arXiv 2510.14974, §3.3: no real images, no adversary, no network
beside teacher and student, which share all of their weights but the student's adapters and head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mfsynth.models.few_steps.policy import Policy
from mfsynth.models.few_steps.student import acting_as
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.sampling import MIN_T
from mfsynth.training.distillation.config import TeacherConfig
from mfsynth.training.joint_model import JointModel
from mfsynth.training.noise import sample_generators
from mfsynth.training.objective import Forward


@dataclass(frozen=True, slots=True, eq=False)
class PromptBatch:
    """A batch with every random choice made, on the device.

    Attributes:
        noise: (B, N, C) standard normal, that trajectories begin at.
        text: (B, L, D) hidden states of the prompts.
        segment: (B,) int64, the segment of its trajectory that a sample learns.
        places: (P, B) where in its segment the teacher is asked: 0 its beginning, 1 its end.
    """

    noise: Tensor
    text: Tensor
    segment: Tensor
    places: Tensor


class PolicyObjective:
    """The loss of a student for one teacher.

    Args:
        pipeline: The teacher's, on the device, its transformer with a student.
        model: Its transformer, as training wraps it.
        teacher: How the teacher is asked.
        levels: RGB's noise levels between the student's steps; see `FewSteps`.
        seed: Of noise, segments and places.
        precision: Of every forward.
    """

    def __init__(
        self,
        pipeline: ModalityForcingPipeline,
        model: JointModel,
        teacher: TeacherConfig,
        levels: Sequence[float],
        seed: int,
        precision: torch.autocast,
    ) -> None:
        self._pipeline = pipeline
        self._model = model
        self._teacher = teacher
        self._seed = seed
        self._precision = precision
        self._device = pipeline.transformer.device
        self._levels = torch.tensor(levels, device=self._device)
        config = pipeline.transformer.config
        self._is_velocity = config.rgb_prediction == "velocity"
        patch = pipeline.depth_codec.patch
        self._grid = (pipeline.config.height // patch, pipeline.config.width // patch)
        self._tokens = (self._grid[0] * self._grid[1], config.in_channels)
        self._null = self._encode([""])

    def prepare(self, prompts: Sequence[str], numbers: Sequence[int]) -> PromptBatch:
        """Encode prompts and draw all else.

        Args:
            prompts: B of them.
            numbers: Of the B samples in the training stream.
        """
        generators = sample_generators(self._seed, numbers)
        steps, points = len(self._levels) - 1, self._teacher.points
        noise = torch.stack([torch.randn(self._tokens, generator=one) for one in generators])
        segment = torch.cat([torch.randint(steps, (1,), generator=one) for one in generators])
        within = torch.stack([torch.rand(points, generator=one) for one in generators], dim=1)
        # One in each part of the segment: less scatter than anywhere in it.
        places = (torch.arange(points)[:, None] + within) / points
        noise, segment, places = (of.to(self._device) for of in (noise, segment, places))
        return PromptBatch(noise, self._encode(prompts), segment, places)

    def losses(self, forward: Forward, batch: PromptBatch) -> Tensor:
        """The mean square between the policy's velocity and the teacher's of each sample, (B,).

        Args:
            forward: Of the student, with gradients.
            batch: What it is for.
        """
        begun = self._begun(batch)
        start, end = self._levels[batch.segment], self._levels[batch.segment + 1]
        policy = self._policy(forward, begun, start, end, batch.text)
        known = policy.detach()
        errors = []
        for place in batch.places:
            t = start + place * (end - start)
            clean = self._teacher_clean(known.roll(begun, t), t, batch.text)
            error = (policy.clean_at(t) - clean).square().mean(dim=(1, 2))
            errors.append(error / t.clamp(min=MIN_T).square())
        return torch.stack(errors).mean(dim=0)

    @torch.no_grad()
    def _begun(self, batch: PromptBatch) -> Tensor:
        """(B, N, C), each sample where the student has it at the beginning of its segment."""
        tokens = batch.noise
        for step in range(int(batch.segment.max())):
            rows = (batch.segment > step).nonzero()[:, 0]
            start, end = (self._levels[at].expand(len(rows)) for at in (step, step + 1))
            policy = self._policy(self._model, tokens[rows], start, end, batch.text[rows])
            tokens = tokens.index_copy(0, rows, policy.roll(tokens[rows], end))
        return tokens

    def _policy(
        self, forward: Forward, noisy: Tensor, start: Tensor, end: Tensor, text: Tensor
    ) -> Policy:
        output = self._predict(forward, noisy, start, text)
        return Policy.of(output, noisy, start, end, is_velocity=self._is_velocity)

    @torch.no_grad()
    def _teacher_clean(self, noisy: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """The teacher's x̂, guided where guidance acts."""
        low, high = self._teacher.guidance_interval
        is_guided = (low <= t) & (t <= high) & (self._teacher.guidance != 1)
        rows = is_guided.nonzero()[:, 0]
        null = self._null.expand(len(rows), -1, -1)
        with acting_as(self._pipeline.transformer, student=False):
            output = self._predict(
                self._model,
                torch.cat([noisy, noisy[rows]]),
                torch.cat([t, t[rows]]),
                torch.cat([text, null]),
            )
        predicted, unconditional = output.tensor_split((len(noisy),))
        away = (self._teacher.guidance - 1) * (predicted[rows] - unconditional)
        predicted = predicted.index_add(0, rows, away)
        return noisy - t[:, None, None] * predicted if self._is_velocity else predicted

    def _predict(self, forward: Forward, noisy: Tensor, t: Tensor, text: Tensor) -> Tensor:
        with self._precision:
            return forward(rgb=noisy, t_rgb=t, text=text, grid=self._grid).rgb

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> Tensor:
        return self._pipeline.encode_prompts(prompts).to(self._device).float()
