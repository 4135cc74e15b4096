"""What decides the weights of a training: a checkpoint is gone on from where it is of the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mfsynth.config import differences, settings_digest
from mfsynth.config.base import Settings
from mfsynth.storage.credentials import without_credentials
from mfsynth.training.config import LoopConfig
from mfsynth.training.data import Mixture
from mfsynth.training.optimisers import learning_rate_factor

# Where and how fast weights are made, what is said of them, and what helps a damaged run.
_OPERATIONAL = {"name", "licence", "samples", "output", "checkpoint_every", "on_error", "workers"}
_OPERATIONAL_OF_LOOPS = {
    "sharding",
    "workers",
    "compile",
    "gradient_checkpointing",
    "checkpoint_every",
}
_BATCHES = {"batch_size", "accumulate"}
# When a training's phases end, and from when on its rates fall.
_SCHEDULE = ("steps", "image_steps", "joint_steps", "decay_share")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """What a training is.

    Attributes:
        settings: What its weights are a function of, nested, JSON values only.
        schedule: Its rates, where the end may be moved; None where every rate depends on the end.
    """

    settings: Mapping[str, Any]
    schedule: LoopConfig | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same settings, on every machine."""
        return settings_digest(self.settings)

    def refusal(self, found: Mapping[str, Any], step: int) -> str | None:
        """Why a checkpoint is not one of this training; None where it is.

        The end of a phase may have been moved, if all that was done until then would have been the
        same: if phases and rates up to the checkpoint are those that it was trained with.

        Args:
            found: Settings of the checkpoint.
            step: That it is of.
        """
        changes = differences(found, self.settings)
        if not changes:
            return None
        rest = len(changes) - _SHOWN
        said = "; ".join(changes[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
        if self.schedule is None or differences(
            _without_schedule(found), _without_schedule(self.settings)
        ):
            return f"of other settings ({said})"
        optimiser = found["optimiser"]
        before = self.schedule.model_copy(
            update={key: optimiser[key] for key in _SCHEDULE if key in optimiser}
        )
        if step > self.schedule.total_steps:
            return f"of step {step}, after the end that was set now ({said})"
        for past in range(step):
            if _phase(past, before) != _phase(past, self.schedule):
                return f"of other settings ({said}), by which step {past} is of another phase"
            if learning_rate_factor(past, before) != learning_rate_factor(past, self.schedule):
                return (
                    f"of other settings ({said}), by which the rates differ from step {past} on: "
                    "the end can be moved as long as they have not begun to fall"
                )
        return None


def settings_of(config: Settings, *, but: Collection[str] = ()) -> dict[str, Any]:
    """What of a configuration decides weights, without credentials; lists by their numbers.

    Args:
        config: A whole one.
        but: Settings that are given otherwise.
    """
    found: dict[str, Any] = plain(config.model_dump(mode="json", exclude={*_OPERATIONAL, *but}))
    return found


def loop_settings(config: LoopConfig, processes: int) -> dict[str, Any]:
    """What of a loop's settings decides weights.

    Batches of how many, and in how many processes, is all one: it is the samples of a step.
    """
    settings: dict[str, Any] = plain(
        config.model_dump(mode="json", exclude=_OPERATIONAL_OF_LOOPS | _BATCHES)
    )
    return settings | {"samples_of_a_step": config.batch_size * config.accumulate * processes}


def items_of(mixture: Mixture) -> dict[str, int]:
    """How many items each part of a mixture has: with another one, all are drawn otherwise."""
    return {str(number): len(part.source) for number, part in enumerate(mixture.parts)}


def _phase(step: int, config: LoopConfig) -> int:
    return sum(step >= end for end in accumulate(config.phases))


def _without_schedule(settings: Mapping[str, Any]) -> dict[str, Any]:
    optimiser = settings.get("optimiser")
    kept = optimiser if isinstance(optimiser, Mapping) else {}
    return {
        **settings,
        "optimiser": {key: value for key, value in kept.items() if key not in _SCHEDULE},
    }


def plain(value: Any) -> Any:
    """Settings that are set, as a checkpoint keeps them: JSON values without credentials."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        # So that differences are said part by part.
        return {str(number): plain(part) for number, part in enumerate(value)}
    if isinstance(value, str) and "://" in value:
        return without_credentials(value)
    return value
