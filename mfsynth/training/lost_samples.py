"""Samples that teach nothing: those without depth, and those that can't be read."""

from __future__ import annotations

from dataclasses import dataclass

from accelerate.utils import gather_object

from mfsynth.datasets import Loader
from mfsynth.errors import MfsynthError
from mfsynth.training.data import TrainingBatch
from mfsynth.training.progress import STEPS_PER_LINE, Log


@dataclass
class LostSamples:
    """Those of a training's process, since it began or went on.

    Attributes:
        first: Step that this process began at.
        last: Step to reach.
    """

    first: int
    last: int
    _without_depth: int = 0
    _has_learnt: bool = False

    def add(self, batch: TrainingBatch, loss: float) -> None:
        """Take in a step: the samples of this process, and the loss over those of all."""
        self._without_depth += int((~batch.has_depth).sum())
        self._has_learnt |= loss > 0

    def require_others(self, step: int) -> None:
        """Stop a training to which all samples are lost.

        Raises:
            MfsynthError: From its beginning until this step none had valid depth.
        """
        if not (self._has_learnt or self.first) and step >= min(STEPS_PER_LINE, self.last):
            raise MfsynthError(
                f"no sample of the first {step} steps has valid depth, so nothing was learnt; "
                "`mfsynth data inspect` shows them"
            )

    def say(self, loader: Loader | None, log: Log) -> None:
        """How many there were of all processes, which call it together."""
        skipped = (0, None) if loader is None else (loader.skipped, loader.last_skipped)
        found = gather_object([(self._without_depth, *skipped)])
        without_depth, unread = (sum(each[at] for each in found) for at in (0, 1))
        if without_depth:
            log(
                f"since step {self.first}, {without_depth} samples had no valid depth and taught "
                "nothing"
            )
        if unread:
            [*reasons] = (why for *_, why in found if why is not None)
            log(
                f"since step {self.first}, others stood in for {unread} samples that can't be "
                f"read; the last: {reasons[-1]}"
            )
