"""What of a training outlives an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mfsynth.errors import MfsynthError
from mfsynth.training.checkpoints import (
    AVERAGE,
    BASE,
    MODEL,
    OPTIMISER,
    latest_checkpoint,
    optimiser_state,
    read_part,
    restore_optimisers,
    write_checkpoint,
)
from mfsynth.training.optimisers import Optimisers
from mfsynth.training.processes import shard_like


class TrainingState:
    """The step, the trained weights, their moving average, and what the optimisers remember.

    Attributes:
        step: Steps done.
        trained: The weights, by name.
        average: Their moving average, by name.
        optimisers: That move them.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], optimisers: Optimisers) -> None:
        self.step = 0
        self.trained = trained
        self.average = {name: p.detach().clone() for name, p in trained.items()}
        self.optimisers = optimisers

    @property
    def size(self) -> int:
        """How many parameters are trained."""
        return sum(p.numel() for p in self.average.values())

    @torch.no_grad()
    def update_average(self, memory: float) -> None:
        """Take the present weights into the average.

        Args:
            memory: What the average keeps of itself; less of it in the first steps, as the random
                initial weights must not linger in the average.
        """
        decay = min(memory, (1 + self.step) / (10 + self.step))
        for name, parameter in self.trained.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    def save(
        self, folder: Path, *, is_main: bool = True, base: Mapping[str, Tensor] | None = None
    ) -> None:
        """Replace the checkpoint in a folder by the present state, all at once.

        Args:
            folder: Of the training.
            is_main: Whether this process writes; see `write_checkpoint`.
            base: Weights beside these that the training needs again.
        """
        parts: dict[str, Mapping[str, Tensor]] = {
            MODEL: {name: parameter.detach() for name, parameter in self.trained.items()},
            AVERAGE: self.average,
            OPTIMISER: optimiser_state(self.optimisers, self.trained),
        }
        if base:
            parts[BASE] = base
        write_checkpoint(folder, self.step, parts, is_main)

    def resume(self, folder: Path) -> dict[str, Tensor] | None:
        """Take up the newest checkpoint in a folder.

        Returns:
            The `base` that was saved, empty without one; None where there is no checkpoint.

        Raises:
            MfsynthError: It is damaged, or of other weights.
        """
        latest = latest_checkpoint(folder)
        if latest is None:
            return None
        step, checkpoint = latest
        try:
            base = self._read(checkpoint)
        # SafetensorError: a damaged file; KeyError and RuntimeError: other names and sizes.
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise MfsynthError(
                f"{checkpoint}: damaged, or of another configuration "
                f"({' '.join(str(error).split())}); give this training another output"
            ) from error
        self.step = step
        return base

    @torch.no_grad()
    def _read(self, checkpoint: Path) -> dict[str, Tensor]:
        for part, held in ((MODEL, self.trained), (AVERAGE, self.average)):
            missing = {*held}
            for name, value in read_part(checkpoint, part):
                held[name].copy_(shard_like(value, self.trained[name]))
                missing.discard(name)
            if missing:
                raise KeyError(f"{part} without {min(missing)}")
        base = {
            name: shard_like(value, self.trained[name])
            for name, value in read_part(checkpoint, BASE)
        }
        restore_optimisers(self.optimisers, self.trained, read_part(checkpoint, OPTIMISER))
        return base
