"""Objects of the prompt: are the things that it names in the image?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator

from mfsynth.checks.base import Check, CheckedPair, NetworkInfo, Score
from mfsynth.config.base import Fraction, Items, NonEmpty, Unset
from mfsynth.models.recognition.catalogue import DETECTORS, find_recogniser
from mfsynth.models.recognition.opening import open_detector


def _require_slots(things: tuple[str, ...]) -> tuple[str, ...]:
    if not things:
        raise ValueError("names no thing; write, for example, {colour} {shape}")
    for thing in things:
        try:
            parts = [part[1:] for part in Formatter().parse(thing) if part[1] is not None]
        except ValueError:
            parts = []
        plain = all(str(name).isidentifier() and not spec and not how for name, spec, how in parts)
        if not parts or not plain:
            raise ValueError(
                f"{thing!r} is made of no slots; write, for example, {{colour}} {{shape}}"
            )
    return things


class PromptObjects(Check):
    """Limits on the things of a prompt that are found in its image.

    One pair at a time goes through the network, on the worker's GPU if it has one. It doesn't see
    where things are, nor how many of them: two red cubes are found where there is one.

    Attributes:
        model: OWLv2, OWL-ViT or Grounding DINO of transformers, or a judge of coloured solids: a
            folder, a hub id, or `embedded`, the judge of the embedded model's images.
        revision: Of a hub id; its newest if unset.
        things: What a thing is called, of the slots of the prompt library, such as
            `{colour} {shape}` or `{tool}`. Slots in one name are taken together in their order.
        confidence: From which on a thing counts as found.
        min_found: Least share of the things that is found.
        min_confidence: Least confidence of the thing that is the least sure.
    """

    model: NonEmpty
    revision: Unset[NonEmpty] = None
    things: Annotated[Items[NonEmpty], AfterValidator(_require_slots)]
    confidence: Fraction = 0.2
    min_found: Unset[Fraction] = None
    min_confidence: Unset[Fraction] = None

    inputs = ("rgb", "slots")
    scores = (
        Score(
            name="objects_found",
            label="objects found",
            direction="higher",
            note="share of the things that the prompt names that are found in the image",
            limit="min_found",
        ),
        Score(
            name="objects_confidence",
            label="least sure object",
            direction="higher",
            note="confidence of the thing that the prompt names and that is the least sure",
            limit="min_confidence",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Both scores; nan where the prompt names none, or one that the network can't know."""
        assert pair.slots is not None  # it is one of the inputs
        things = named_things(self.things, pair.slots)
        sure: list[float] = []
        if things:
            sure = [*open_detector(self.model, self.revision).confidences(pair.rgb, things)]
        # What nobody looked for may be absent.
        if not sure or any(math.isnan(one) for one in sure):
            return {"objects_found": math.nan, "objects_confidence": math.nan}
        found = sum(one >= self.confidence for one in sure)
        return {"objects_found": found / len(sure), "objects_confidence": min(sure)}

    @property
    def slots(self) -> tuple[str, ...]:
        """Those that `things` are made of, each once."""
        return (*dict.fromkeys(slot for thing in self.things for slot in _slots_of(thing)),)

    def network(self) -> NetworkInfo:
        """Of the setting `model`."""
        found = find_recogniser(self.model, self.revision, DETECTORS, weights=False)
        return NetworkInfo(self.model, found.revision, found.licence)

    def load(self) -> None:
        """The network, for the whole process."""
        open_detector(self.model, self.revision)


def named_things(things: Sequence[str], slots: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The things that a prompt names, each once.

    Args:
        things: Names of slots in braces among other words.
        slots: What the prompt took for each slot, in the order of the text.

    Returns:
        For each of `things` as many as the prompt has; None where the slots of one were taken a
        different number of times, so that it isn't known which belong together.
    """
    named: dict[str, None] = {}
    for thing in things:
        fields = _slots_of(thing)
        taken = [slots.get(field, ()) for field in fields]
        if len({len(options) for options in taken}) != 1:
            return None
        for options in zip(*taken, strict=True):
            named[thing.format_map(dict(zip(fields, options, strict=True)))] = None
    return [*named]


def _slots_of(thing: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(thing) if name is not None]
