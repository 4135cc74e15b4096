"""Prompts that the model of a run doesn't know or read: they are told of, and refused.

A model of a small vocabulary makes images of whatever prompts it is given, and they pass the
checks: nothing else tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from mfsynth.config import ModelConfig, PromptsConfig
from mfsynth.errors import MfsynthError
from mfsynth.models.understanding import Understanding
from mfsynth.models.vocabulary import Vocabulary, find_vocabulary

PROMPTS_LOOKED_AT = 1000
"""Of a run, before it begins; of later ones its receipts say what the model made of them."""

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
