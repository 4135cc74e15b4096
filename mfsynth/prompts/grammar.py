"""A grammar of prompts: how a candidate's prompt is drawn from it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mfsynth.errors import MfsynthError
from mfsynth.prompts.english import capitalise, enumerate_items
from mfsynth.prompts.hashing import draw_below, draw_weighted
from mfsynth.prompts.prompt import Prompt
from mfsynth.prompts.sizes import Sizes
from mfsynth.prompts.slots import (
    Choice,
    Number,
    Several,
    Slot,
    Template,
    option_names,
    reachable_slots,
)

_MAX_ATTEMPTS = 10_000

_Path: TypeAlias = tuple[int | str, ...]
_Choices: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A filled slot or template: its text, its JSON-like value, and what was chosen for both."""

    text: str
    value: object
    texts: Mapping[str, str] = field(default_factory=dict)
    choices: _Choices = ()


@dataclass(frozen=True)
class Grammar:
    """A prompt source over a grammar. Immutable; every method is a pure function.

    Attributes:
        name: What messages call it.
        templates: The alternatives for the whole text.
        slots: The named parts; every reference names one of them and none contains itself.
        digest: SHA-256 (hexadecimal) of the content; with the seed it decides all prompts.
        seed: The run's seed.
        sentences: Whether sentences get capitals.
    """

    name: str
    templates: tuple[Template, ...]
    slots: Mapping[str, Slot]
    digest: str
    seed: int
    sentences: bool

    def prompt(self, candidate: int) -> Prompt:
        """The prompt of a candidate, a pure function of (grammar, seed, candidate).

        Args:
            candidate: At least 0.

        Returns:
            The prompt. Its `slots` map each label of the chosen template to its value: text
            for a plain option, a number, a list, or a mapping for a text with slots of its own
            (with the key `text` if it is one of several options). Its `choices` name slots and
            options as `options` does.

        Raises:
            MfsynthError: The weights make the constraints all but impossible to satisfy.
        """
        drawn = self._draw_prompt(candidate)
        text = capitalise(drawn.text) if self.sentences else drawn.text
        assert isinstance(drawn.value, dict)
        return Prompt.from_text(text, drawn.value, drawn.choices)

    @functools.cached_property
    def size(self) -> int:
        """How many ways to choose there are, exactly (see `mfsynth.prompts.sizes`)."""
        return Sizes(self.slots).of_space(self.templates)

    def options(self) -> dict[str, tuple[str, ...]]:
        """What each slot that a prompt can reach offers (see `slots.option_names`)."""
        return {
            name: option_names(self.slots[name])
            for name in reachable_slots(self.templates, self.slots)
        }

    @functools.cached_property
    def slot_names(self) -> tuple[str, ...]:
        """The slots that offer a choice, nearest to the whole text first."""
        return tuple(name for name, options in self.options().items() if len(options) > 1)

    def _draw_prompt(self, candidate: int) -> _Drawn:
        if candidate < 0:
            raise ValueError(f"candidate must be at least 0, not {candidate}")
        path: _Path = (self.seed, "prompt", candidate)
        index = draw_weighted([template.weight for template in self.templates], *path)
        return self._fill(self.templates[index], path)

    def _fill(self, template: Template, path: _Path) -> _Drawn:
        for attempt in range(_MAX_ATTEMPTS):
            # The first attempt adds nothing to the path, so that a new constraint changes only
            # the prompts that it forbids.
            start = (*path, attempt) if attempt else path
            drawn = {
                label: self._draw(name, (*start, label))
                for label, name in template.references.items()
            }
            texts = {label: part.text for label, part in drawn.items()}
            if template.allows(texts):
                return _Drawn(
                    template.fill(texts),
                    {label: part.value for label, part in drawn.items()},
                    texts,
                    tuple(choice for part in drawn.values() for choice in part.choices),
                )
        raise self._gave_up(template.source)

    def _draw(self, name: str, path: _Path) -> _Drawn:
        slot = self.slots[name]
        if isinstance(slot, Choice):
            return self._draw_choice(name, slot, path)
        if isinstance(slot, Number):
            index = draw_below(slot.count, *path)
            text = slot.text(index)
            return _Drawn(text, slot.value(index), choices=((name, text),))
        return self._draw_several(name, slot, path)

    def _draw_choice(self, name: str, slot: Choice, path: _Path) -> _Drawn:
        option = slot.options[draw_weighted([option.weight for option in slot.options], *path)]
        filled = self._fill(option, path)
        if not option.references:
            value: object = filled.text
        elif len(slot.options) == 1:
            value = filled.value
        else:
            assert isinstance(filled.value, dict)
            value = {"text": filled.text, **filled.value}
        choices = ((name, option.source), *filled.choices)
        return _Drawn(filled.text, value, filled.texts, choices)

    def _draw_several(self, name: str, slot: Several, path: _Path) -> _Drawn:
        weights = [weight for _, weight in slot.counts]
        count = slot.counts[draw_weighted(weights, *path)][0]
        items: list[_Drawn] = []
        for position in range(count):
            items.append(self._draw_unlike(name, slot, items, (*path, position)))
        return _Drawn(
            enumerate_items([item.text for item in items]),
            [item.value for item in items],
            choices=(
                (name, f"{count} of {slot.item}"),
                *(choice for item in items for choice in item.choices),
            ),
        )

    def _draw_unlike(
        self, name: str, slot: Several, others: Sequence[_Drawn], path: _Path
    ) -> _Drawn:
        for attempt in range(_MAX_ATTEMPTS):
            item = self._draw(slot.item, (*path, attempt))
            if not any(_alike(item, other, slot.distinct) for other in others):
                return item
        raise self._gave_up(f"slots.{name}")

    def _gave_up(self, where: str) -> MfsynthError:
        return MfsynthError(
            f"{self.name}: {where}: the constraints were met in none of {_MAX_ATTEMPTS} attempts; "
            "make the weights more even"
        )


def _alike(one: _Drawn, other: _Drawn, distinct: tuple[str, ...] | None) -> bool:
    if distinct is None:
        return False
    if not distinct:
        return one.text == other.text
    return any(one.texts[label] == other.texts[label] for label in distinct)
