"""What a training says while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Log = Callable[[str], None]

LOSSES = ("rgb", "depth", "distillation", "policy")

STEPS_PER_LINE = 50


def quiet(_line: str) -> None:
    """Log of a process that is not the main one."""


@dataclass
class Progress:
    """Means of the losses since the last line, and the time that is left.

    Attributes:
        first: Step that this process began at.
        last: Step to reach.
    """

    first: int
    last: int
    _started: float = field(default_factory=time.monotonic)
    _losses: list[dict[str, float]] = field(default_factory=list)

    def add(self, losses: dict[str, float]) -> None:
        """Take in the losses of a step."""
        self._losses.append(losses)

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps that had it."""
        return {
            name: sum(values) / len(values)
            for name in LOSSES
            if (values := [losses[name] for losses in self._losses if name in losses])
        }

    def seconds(self, step: int) -> float:
        """A step's, since this process began."""
        return (time.monotonic() - self._started) / max(1, step - self.first)

    def line(self, step: int) -> str:
        """Losses, speed and time left; the next line begins its means anew."""
        means = "".join(f" {name} {mean:.4f}" for name, mean in self.means().items())
        self._losses.clear()
        seconds = self.seconds(step)
        left = seconds * (self.last - step) / 60
        return f"step {step}/{self.last}{means} {seconds:.2f} s/step, {left:.0f} min left"
