"""Arguments of the pipeline: what is wrong with them is said before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, get_args

from torch import Tensor

from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.models.outputs import OutputType
from mfsynth.models.schedules import Mode

JOINT_ONLY: Final[Mapping[str, float]] = {
    "log2_alpha": 5.0,
    "depth_step_share": 0.0,
    "depth_start": 1.0,
    "refine_steps": 0,
    "refine_start": 1.0,
}
"""Arguments that mean something in `joint` alone, with their defaults."""

_LEFT_OUT = {"depth_guidance_scale", "height", "width"}
"""Arguments that mean something else where they are None."""

_GIVEN = {"image": Mode.IMAGE_TO_DEPTH, "depth": Mode.DEPTH_TO_IMAGE}


@dataclass(frozen=True, slots=True)
class _Range:
    """Numbers from `low` to `high`.

    Attributes:
        low: The lowest.
        high: The highest.
        whole: Whether they are integers.
        above: Whether `low` itself is none of them.
    """

    low: float
    high: float = math.inf
    whole: bool = False
    above: bool = False

    def require(self, name: str, value: Any) -> None:
        """Refuse any other value."""
        is_number = isinstance(value, Integral if self.whole else Real)
        if not is_number or isinstance(value, bool) or not self._holds(value):
            raise MfsynthError(f"`{name}` is {value!r}; give {self}")

    def _holds(self, value: float) -> bool:
        is_low_enough = math.isfinite(value) and value <= self.high
        return is_low_enough and (self.low < value if self.above else self.low <= value)

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        if self.above:
            return f"{kind} above {self.low:g}, up to {self.high:g}"
        if self.high == math.inf:
            return f"{kind} of at least {self.low:g}"
        return f"{kind} from {self.low:g} to {self.high:g}"


_SHARE = _Range(0, 1)
_SCALE = _Range(0)
_COUNT = _Range(1, whole=True)
_RANGES: Final[Mapping[str, _Range]] = {
    "num_inference_steps": _COUNT,
    "guidance_scale": _SCALE,
    "depth_guidance_scale": _SCALE,
    # Powers of two that float64 has with room to spare.
    "log2_alpha": _Range(-100, 100),
    "depth_step_share": _SHARE,
    "depth_start": _SHARE,
    "refine_steps": _Range(0, whole=True),
    "refine_start": _Range(0, 1, above=True),
    "height": _COUNT,
    "width": _COUNT,
}


def find_mode(mode: Mode | str) -> Mode:
    """The mode of that name.

    Raises:
        MfsynthError: There is none.
    """
    try:
        return Mode(mode)
    except ValueError as error:
        raise MfsynthError(f"`mode` is {mode!r}; {did_you_mean(str(mode), Mode)}") from error


def require_arguments(mode: Mode, **given: Any) -> None:
    """Refuse arguments out of their range, and such as the mode would leave unused.

    Args:
        mode: What is generated.
        given: Arguments of the pipeline by name; None where one was left out.

    Raises:
        MfsynthError: Names the argument, what was given, and what to give.
    """
    require_numbers(**{name: given[name] for name in _RANGES})
    _require_interval(given["guidance_interval"])
    output_type, callback = given["output_type"], given["callback_on_step_end"]
    if output_type not in (known := get_args(OutputType)):
        raise MfsynthError(
            f"`output_type` is {output_type!r}; {did_you_mean(str(output_type), known)}"
        )
    if callback is not None and not callable(callback):
        raise MfsynthError(f"`callback_on_step_end` is {callback!r}; give a function")
    for name, of in _GIVEN.items():
        if given[name] is not None and mode is not of:
            raise MfsynthError(f"`{name}` is for mode {of}, not {mode}; set mode, or leave it out")
    if mode is not Mode.JOINT:
        for name, default in JOINT_ONLY.items():
            if given[name] != default:
                raise MfsynthError(f"`{name}` is for mode joint, not {mode}; leave it out")
    if mode is Mode.DEPTH_TO_IMAGE and given["depth_guidance_scale"] is not None:
        raise MfsynthError(
            "`depth_guidance_scale` is for modes that make depth, not d2i; leave it out"
        )


def require_numbers(**given: Any) -> None:
    """Refuse numbers out of their range, or what is no number.

    Args:
        given: Arguments of the pipeline by name; others than numbers are not looked at.

    Raises:
        MfsynthError: Names the argument, what was given, and what to give.
    """
    for name, value in given.items():
        if name in _RANGES and not (value is None and name in _LEFT_OUT):
            _RANGES[name].require(name, value)


def count_samples(
    prompt: str | Sequence[str] | None,
    embeds: Tensor | None,
    seeds: Sequence[int],
    shape: tuple[int, int],
) -> int:
    """How many samples a call is for.

    Args:
        prompt: The prompts, or None.
        embeds: In their place (B, L, C).
        seeds: One each.
        shape: L and C of the model.

    Raises:
        MfsynthError: Both of the first two are given or neither is, something is of another type or
            shape, or there is not one seed for each.
    """
    if (prompt is None) == (embeds is None):
        raise MfsynthError("give either `prompt` or `prompt_embeds`")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if embeds is None:
        if not isinstance(prompts, Sequence) or not all(isinstance(one, str) for one in prompts):
            raise MfsynthError(f"`prompt` is {prompt!r}; give a text or a list of texts")
    elif not isinstance(embeds, Tensor) or embeds.ndim != 3 or embeds.shape[1:] != shape:
        found = f"of shape {tuple(embeds.shape)}" if isinstance(embeds, Tensor) else repr(embeds)
        raise MfsynthError(
            f"`prompt_embeds` is {found}, not a tensor (B, {shape[0]}, {shape[1]}); take that of "
            "this model's `encode_prompts`"
        )
    batch = len(embeds) if embeds is not None else len(prompts or [])
    try:
        count = len(seeds)
    except TypeError as error:
        raise MfsynthError(f"`seeds` is {seeds!r}; give a list with one for each prompt") from error
    if batch != count:
        raise MfsynthError(f"{batch} prompts but {count} seeds; give one seed each")
    if not batch:
        raise MfsynthError("there are no prompts; give one at least, '' for none in words")
    return batch


def _require_interval(interval: Any) -> None:
    try:
        low, high = interval
    except (TypeError, ValueError) as error:
        raise MfsynthError(
            f"`guidance_interval` is {interval!r}; give the lowest and the highest noise level"
        ) from error
    for level in (low, high):
        _SHARE.require("guidance_interval", level)
    if low > high:
        raise MfsynthError(f"`guidance_interval` is ({low}, {high}); put the lower level first")
