"""Prompts as a source: texts without images, and without end."""

from __future__ import annotations

from dataclasses import dataclass

from mfsynth.prompts import PromptSource
from mfsynth.sources.base import Item


@dataclass(frozen=True, slots=True)
class PromptItems:
    """Implements `Source`: item i has the prompt of candidate i.

    Attributes:
        prompts: A library's or a file's.
    """

    prompts: PromptSource

    def __getitem__(self, index: int) -> Item:
        prompt = self.prompts.prompt(index)
        slots: dict[str, tuple[str, ...]] = dict.fromkeys(self.prompts.slot_names, ())
        for slot, option in prompt.choices:
            if slot in slots:
                slots[slot] += (option,)
        return Item(text=prompt.text, slots=slots)
