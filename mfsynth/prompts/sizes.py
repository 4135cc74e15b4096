"""How many prompts a grammar can make: exact integers.

Sizes count the ways to choose. That is the number of distinct prompts unless a grammar can
write one text in two ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product

from mfsynth.prompts.slots import Choice, Number, Several, Slot, Template


def space_size(templates: Iterable[Template], slots: Mapping[str, Slot]) -> int:
    """The number of ways to choose a template and fill its slots within its constraints."""
    return sum(template_size(template, slots) for template in templates)


def template_size(template: Template, slots: Mapping[str, Slot]) -> int:
    """The number of ways to fill a template within its constraints."""
    free = {label: slot_size(name, slots) for label, name in template.references.items()}
    size = 1
    for group in template.distinct:
        size *= math.perm(free[group[0]], len(group))
        for label in group:
            del free[label]
    ruled = sorted({label for rule in template.never for label in rule})
    if ruled:
        options = [literal_options(slots[template.references[label]]) or () for label in ruled]
        size *= sum(
            template.allows_together(dict(zip(ruled, texts, strict=True)))
            for texts in product(*options)
        )
        for label in ruled:
            del free[label]
    return size * math.prod(free.values())


def slot_size(name: str, slots: Mapping[str, Slot]) -> int:
    """The number of ways to fill a slot."""
    slot = slots[name]
    if isinstance(slot, Choice):
        return space_size(slot.options, slots)
    if isinstance(slot, Number):
        return slot.count
    return sum(list_size(slot, count, slots) for count, _ in slot.counts)


def list_size(slot: Several, count: int, slots: Mapping[str, Slot]) -> int:
    """The number of ways to fill a list of `count` items."""
    size = slot_size(slot.item, slots)
    if slot.distinct is None:
        return int(size**count)
    if not slot.distinct:
        return math.perm(size, count)
    # The labels are bound by no other constraint, so each is an independent factor of the size.
    item = slots[slot.item]
    assert isinstance(item, Choice)
    names = item.options[0].references
    labels = [slot_size(names[label], slots) for label in slot.distinct]
    others = size // math.prod(labels)
    return int(others**count) * math.prod(math.perm(label, count) for label in labels)


def literal_options(slot: Slot) -> tuple[str, ...] | None:
    """The texts of a slot that is a choice among plain texts; None for any other slot."""
    if isinstance(slot, Choice) and not any(option.references for option in slot.options):
        return tuple(option.fill({}) for option in slot.options)
    return None
