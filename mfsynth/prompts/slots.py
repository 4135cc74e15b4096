"""The parts of a prompt grammar, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from mfsynth.prompts.english import ARTICLE, tidy


@dataclass(frozen=True, slots=True)
class Reference:
    """`{slot}` or `{label=slot}`; one label has one value throughout a template."""

    label: str
    slot: str


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and references, with the constraints on what the references may become.

    Attributes:
        parts: Literal texts (articles as `english.ARTICLE`) and references, in order.
        weight: How often it is chosen, relative to its siblings; a positive integer.
        distinct: Groups of labels, all of one slot, whose texts must differ.
        never: Combinations that must not occur: label to the texts that, together, are excluded.
    """

    parts: tuple[str | Reference, ...]
    weight: int = 1
    distinct: tuple[tuple[str, ...], ...] = ()
    never: tuple[Mapping[str, frozenset[str]], ...] = ()

    @property
    def references(self) -> dict[str, str]:
        """Label to slot, in order of appearance."""
        return {part.label: part.slot for part in self.parts if isinstance(part, Reference)}

    @property
    def source(self) -> str:
        """The template as it is written, which also names it among its siblings."""
        return "".join(
            part.replace(ARTICLE, "{a}")
            if isinstance(part, str)
            else f"{{{part.slot}}}"
            if part.label == part.slot
            else f"{{{part.label}={part.slot}}}"
            for part in self.parts
        )

    def fill(self, texts: Mapping[str, str]) -> str:
        """The text, with each reference replaced by the text of its label."""
        return tidy(
            "".join(part if isinstance(part, str) else texts[part.label] for part in self.parts)
        )

    def allows(self, texts: Mapping[str, str]) -> bool:
        """Whether the texts of the labels satisfy the constraints."""
        alike = any(len({texts[label] for label in group}) < len(group) for group in self.distinct)
        return not alike and self.allows_together(texts)

    def allows_together(self, texts: Mapping[str, str]) -> bool:
        """Whether no rule of `never` excludes the texts of its labels."""
        return not any(
            all(texts[label] in excluded for label, excluded in rule.items()) for rule in self.never
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of at least one templates, by weight."""

    options: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `low` upwards in steps, each equally likely.

    Attributes:
        low: The first value.
        step: The distance of two values, positive.
        count: How many values there are.
        decimals: Digits after the point in the text, or None to write the number as it is.
    """

    low: Decimal
    step: Decimal
    count: int
    decimals: int | None = None

    def value(self, index: int) -> int | float:
        """The number at an index in [0, count): an integer if low and step are."""
        value = self.low + index * self.step
        whole = self.low == self.low.to_integral() and self.step == self.step.to_integral()
        return int(value) if whole else float(value)

    def text(self, index: int) -> str:
        """The number at an index in [0, count), as it stands in the prompt."""
        value = self.low + index * self.step
        return f"{value:f}" if self.decimals is None else f"{value:.{self.decimals}f}"


@dataclass(frozen=True, slots=True)
class Several:
    """Several draws of one slot, written as "a, b and c".

    Attributes:
        item: The slot that is drawn.
        counts: How many, with weights, both positive.
        distinct: Labels of the item, none of which may have one text twice; empty: the whole
            text of the item may not repeat; None: everything may repeat.
    """

    item: str
    counts: tuple[tuple[int, int], ...]
    distinct: tuple[str, ...] | None = None


Slot: TypeAlias = Choice | Number | Several


def referenced_slots(slot: Slot) -> tuple[str, ...]:
    """The names of the slots that a slot is made of."""
    if isinstance(slot, Choice):
        return tuple(name for option in slot.options for name in option.references.values())
    return (slot.item,) if isinstance(slot, Several) else ()


def reachable_slots(templates: Iterable[Template], slots: Mapping[str, Slot]) -> tuple[str, ...]:
    """The names of the slots that the templates are made of, directly or not, nearest first."""
    waiting = [name for template in templates for name in template.references.values()]
    found: dict[str, None] = {}
    # The list grows while it is gone through.
    for name in waiting:
        if name not in found:
            found[name] = None
            waiting.extend(referenced_slots(slots[name]))
    return tuple(found)


def option_names(slot: Slot) -> tuple[str, ...]:
    """What a slot offers, in the order of the file.

    Choices as they are written, numbers as they stand in the prompt, lists as `"2 of object"`.
    """
    if isinstance(slot, Choice):
        return tuple(option.source for option in slot.options)
    if isinstance(slot, Number):
        return tuple(slot.text(index) for index in range(slot.count))
    return tuple(f"{count} of {slot.item}" for count, _ in slot.counts)
