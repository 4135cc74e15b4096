"""How much of what a grammar offers a number of candidates reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mfsynth.prompts.grammar import Grammar


@dataclass(frozen=True, slots=True)
class SlotCoverage:
    """What became of one slot.

    Attributes:
        slot: Its name.
        options: What it offers, in the order of the file.
        uses: How often each option was chosen.
    """

    slot: str
    options: tuple[str, ...]
    uses: tuple[int, ...]

    @property
    def seen(self) -> int:
        """How many of the options were chosen at least once."""
        return sum(use > 0 for use in self.uses)

    @property
    def missing(self) -> tuple[str, ...]:
        """The options that never were chosen, in the order of the file."""
        return tuple(option for option, use in zip(self.options, self.uses, strict=True) if not use)


def coverage(grammar: Grammar, candidates: Iterable[int]) -> tuple[SlotCoverage, ...]:
    """Count the choices of some candidates, slot by slot.

    Args:
        grammar: The grammar.
        candidates: Their numbers, each at least 0.

    Returns:
        One entry for each slot that prompts can reach and that offers a choice.
    """
    uses = Counter(
        choice for candidate in candidates for choice in grammar.prompt(candidate).choices
    )
    options = grammar.options()
    return tuple(
        SlotCoverage(slot, options[slot], tuple(uses[slot, option] for option in options[slot]))
        for slot in grammar.slot_names
    )
