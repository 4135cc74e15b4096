"""What of a training outlives an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mfsynth.errors import MfsynthError
from mfsynth.training.checkpoints import (
    AVERAGE,
    BASE,
    MODEL,
    OPTIMISER,
    Checkpoint,
    latest_checkpoint,
    optimiser_state,
    restore_optimisers,
    write_checkpoint,
)
from mfsynth.training.identity import Identity
from mfsynth.training.optimisers import Optimisers
from mfsynth.training.processes import shard_like


class TrainingState:
    """The step, the trained weights, their moving average, and what the optimisers remember.

    Attributes:
        step: Steps done.
        trained: The weights, by name.
        average: Their moving average, by name.
        optimisers: That move them.
        identity: What they are a function of.
        loader: Where the loader of the data is, if there is one; see `mfsynth.datasets.Loader`.
    """

    def __init__(
        self, trained: Mapping[str, nn.Parameter], optimisers: Optimisers, identity: Identity
    ) -> None:
        self.step = 0
        self.identity = identity
        self.trained = trained
        self.average = {name: p.detach().clone() for name, p in trained.items()}
        self.optimisers = optimisers
        self.loader: dict[str, Any] | None = None

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
        present = [parameter.detach() for parameter in self.trained.values()]
        torch._foreach_lerp_([self.average[name] for name in self.trained], present, 1 - decay)

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
        write_checkpoint(folder, self.step, self.identity, parts, is_main, self.loader)

    def resume(self, folder: Path) -> dict[str, Tensor] | None:
        """Take up the newest checkpoint in a folder.

        Returns:
            The `base` that was saved, empty without one; None where there is no checkpoint.

        Raises:
            MfsynthError: It is of other settings, which are listed; or a file of it is missing, cut
                off or changed.
        """
        checkpoint = latest_checkpoint(folder)
        if checkpoint is None:
            return None
        if reason := self.identity.refusal(checkpoint.record.settings, checkpoint.step):
            raise MfsynthError(
                f"{checkpoint.path} is {reason}; set them back, or give this training another "
                "output"
            )
        try:
            base = self._read(checkpoint)
        # Other names or sizes, for settings that are the same: of another version of the code.
        except (KeyError, RuntimeError, ValueError) as error:
            raise MfsynthError(
                f"{checkpoint.path} has not the weights of this training "
                f"({' '.join(str(error).split())}); give it another output"
            ) from error
        self.step, self.loader = checkpoint.step, checkpoint.record.loader
        return base

    @torch.no_grad()
    def _read(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        for part, held in ((MODEL, self.trained), (AVERAGE, self.average)):
            missing = {*held}
            for name, value in checkpoint.read(part):
                if value.shape != held[name].shape:
                    raise ValueError(f"{part} with {name} of {tuple(value.shape)}")
                held[name].copy_(shard_like(value, self.trained[name]))
                missing.discard(name)
            if missing:
                raise KeyError(f"{part} without {min(missing)}")
        base = {
            name: shard_like(value, self.trained[name]) for name, value in checkpoint.read(BASE)
        }
        restore_optimisers(self.optimisers, self.trained, checkpoint.read(OPTIMISER))
        return base
