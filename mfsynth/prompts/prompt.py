"""A prompt and where prompts come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mfsynth.prompts.hashing import text_id


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        text: What the model is given.
        prompt_id: 16 hexadecimal digits, a function of the text alone.
        slots: The choices that made the text, nested and JSON-like; empty for plain sources.
        choices: The same as (slot, option) pairs in the order of the text.
    """

    text: str
    prompt_id: str
    slots: Mapping[str, object] = field(default_factory=dict, hash=False)
    choices: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_text(
        cls,
        text: str,
        slots: Mapping[str, object] | None = None,
        choices: tuple[tuple[str, str], ...] = (),
    ) -> Prompt:
        """A prompt whose identifier is derived from its text."""
        return cls(text, text_id(text), dict(slots or {}), choices)


class PromptSource(Protocol):
    """Random access to prompts by candidate number."""

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over everything that, with the seed, decides the prompts."""

    @property
    def size(self) -> int:
        """How many prompts there are: the size of a grammar's space, the rows of a file."""

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The slots that offer a choice; none for a file."""

    def prompt(self, candidate: int) -> Prompt:
        """The prompt of a candidate, a pure function of its number (at least 0)."""
