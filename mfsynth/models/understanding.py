"""What a model makes of prompts: words that it doesn't know, and those that it doesn't read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mfsynth.formatting import counts, one_line
from mfsynth.models.vocabulary import Vocabulary

_WORDS_SHOWN = 5
_WORD_LENGTH = 30


@dataclass(frozen=True, slots=True)
class Understanding:
    """What a model makes of some prompts.

    Attributes:
        prompts: How many they are.
        unknown: How many of them have words that the model doesn't know.
        cut: How many are longer than what it reads.
        length: Tokens that it reads.
        words: Those that it doesn't know, by the number of times that they occur.
    """

    prompts: int
    unknown: int
    cut: int
    length: int
    words: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, vocabulary: Vocabulary, prompts: Sequence[str]) -> Understanding:
        """Ask the model's tokenizer."""
        readings = vocabulary.read(prompts)
        return cls(
            prompts=len(prompts),
            unknown=sum(bool(each.unknown) for each in readings),
            cut=sum(each.tokens > vocabulary.length for each in readings),
            length=vocabulary.length,
            words=Counter(one_line(w, _WORD_LENGTH) for each in readings for w in each.unknown),
        )

    @property
    def trouble(self) -> str:
        """In one line; empty if the model knows and reads all of them."""
        parts, of = [], f" of {self.prompts} prompts"
        if self.unknown:
            words = f"words that the model doesn't know ({self._shown})"
            parts.append(f"{self.unknown}{of} {'has' if self.unknown == 1 else 'have'} {words}")
        if self.cut:
            of = "" if parts else of
            longer = "is longer" if self.cut == 1 else "are longer"
            parts.append(f"{self.cut}{of} {longer} than the {self.length} tokens that it reads")
        return "; ".join(parts)

    @property
    def _shown(self) -> str:
        words = dict(self.words.most_common())
        telling = {word: n for word, n in words.items() if sum(map(str.isalnum, word)) > 2}
        return counts(telling or words, _WORDS_SHOWN)
