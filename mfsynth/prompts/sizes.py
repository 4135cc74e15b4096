"""How many prompts a grammar can make: exact integers.

Sizes count the ways to choose. That is the number of distinct prompts unless a grammar can
write one text in two ways.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mfsynth.prompts.slots import Choice, Number, Several, Slot, Template


class Sizes:
    """Of what a grammar has; each slot is counted once, however many name it.

    Args:
        slots: Of the grammar, by name.
    """

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots
        self._known: dict[str, int] = {}

    def of_space(self, templates: Iterable[Template]) -> int:
        """The number of ways to choose a template and fill its slots within its constraints."""
        return sum(self.of_template(template) for template in templates)

    def of_template(self, template: Template) -> int:
        """The number of ways to fill a template within its constraints."""
        free = {label: self.of_slot(name) for label, name in template.references.items()}
        size = 1
        for group in template.distinct:
            size *= math.perm(free[group[0]], len(group))
            for label in group:
                del free[label]
        ruled = dict.fromkeys(label for rule in template.never for label in rule)
        size *= _allowed(
            template.never,
            {
                label: literal_options(self._slots[template.references[label]]) or ()
                for label in ruled
            },
        )
        for label in ruled:
            del free[label]
        return size * math.prod(free.values())

    def of_slot(self, name: str) -> int:
        """The number of ways to fill a slot."""
        if name not in self._known:
            self._known[name] = self._count(self._slots[name])
        return self._known[name]

    def of_list(self, slot: Several, count: int) -> int:
        """The number of ways to fill a list of `count` items."""
        size = self.of_slot(slot.item)
        if slot.distinct is None:
            return int(size**count)
        if not slot.distinct:
            return math.perm(size, count)
        # The labels are bound by no other constraint: each is an independent factor of the size.
        item = self._slots[slot.item]
        assert isinstance(item, Choice)
        names = item.options[0].references
        labels = [self.of_slot(names[label]) for label in slot.distinct]
        others = size // math.prod(labels)
        return int(others**count) * math.prod(math.perm(label, count) for label in labels)

    def _count(self, slot: Slot) -> int:
        if isinstance(slot, Choice):
            return self.of_space(slot.options)
        if isinstance(slot, Number):
            return slot.count
        return sum(self.of_list(slot, count) for count, _ in slot.counts)


def literal_options(slot: Slot) -> tuple[str, ...] | None:
    """The texts of a slot that is a choice among plain texts; None for any other slot."""
    if isinstance(slot, Choice) and not any(option.references for option in slot.options):
        return tuple(option.fill({}) for option in slot.options)
    return None


def _allowed(
    rules: Sequence[Mapping[str, frozenset[str]]], options: Mapping[str, Sequence[str]]
) -> int:
    """The number of ways to fill labels of which no rule excludes all of its own.

    Label by label: texts that the same rules name are one kind, and of what was filled so far only
    the rules count that may still exclude it.
    """
    last = [max(rule, key=[*options].index) for rule in rules]
    ways = Counter({frozenset(range(len(rules))): 1})
    for label, texts in options.items():
        kinds = Counter(
            frozenset(n for n, rule in enumerate(rules) if text in rule.get(label, texts))
            for text in texts
        )
        decided = {n for n, other in enumerate(last) if other == label}
        following: Counter[frozenset[int]] = Counter()
        for alive, count in ways.items():
            for kind, alike in kinds.items():
                left = alive & kind
                if not left & decided:
                    following[left] += count * alike
        ways = following
    return ways.total()
