"""What the model makes of prompts: words that it doesn't know, and those that it doesn't read.

A model of a small vocabulary makes images of whatever prompts it is given, and they pass the
checks: nothing else tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mfsynth.config import ModelConfig, PromptsConfig
from mfsynth.errors import MfsynthError
from mfsynth.formatting import counts, one_line
from mfsynth.models.vocabulary import Vocabulary, find_vocabulary

PROMPTS_LOOKED_AT = 1000
"""Of a run, before it begins; of later ones its receipts say what the model made of them."""
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


REMEDY = (
    "what is not read won't be seen; take prompts for this model (`mfsynth prompts preview` tells "
    "of a library), or another model"
)
"""What `Understanding.trouble` goes on with where a run is about to begin."""


def require_understood(found: Understanding | None, prompts: PromptsConfig | None) -> None:
    """Refuse prompts that the model can't know, unless they are allowed.

    Args:
        found: What it makes of them; None where that can't be told, which is allowed.
        prompts: What is set of them; None for texts of a source, which are what they are.

    Raises:
        MfsynthError: Some have unknown words, or are cut.
    """
    if prompts is None or prompts.allow_unknown:
        return
    if found is not None and found.trouble:
        raise MfsynthError(
            f"prompts: {found.trouble}; {REMEDY}; or allow them: prompts.allow_unknown=true"
        )


def vocabulary_of(model: ModelConfig) -> Vocabulary | None:
    """The model's tokenizer; None where it isn't on this machine, or can't be asked."""
    # Exception: of a tokenizer that can't be asked here, the model itself says what is wrong.
    try:
        return find_vocabulary(model)
    except Exception:
        return None


def understanding(vocabulary: Vocabulary | None, prompts: Sequence[str]) -> Understanding | None:
    """What a model makes of prompts; None where that can't be told on this machine."""
    if vocabulary is None:
        return None
    # Exception: as above; a chat template may refuse what it is given.
    try:
        return Understanding.of(vocabulary, prompts)
    except Exception:
        return None
