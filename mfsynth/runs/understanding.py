"""Prompts that the model of a run doesn't know or read: they are told of, and refused.

A model of a small vocabulary makes images of whatever prompts it is given, and they pass the
checks: nothing else tells.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from mfsynth.config import ModelConfig, PromptsConfig
from mfsynth.errors import MfsynthError
from mfsynth.formatting import one_line
from mfsynth.models.understanding import Understanding
from mfsynth.models.vocabulary import Vocabulary, find_vocabulary

_log = logging.getLogger(__name__)

_MOST_OF_A_REASON = 300

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
    """The model's tokenizer; None where it isn't on this machine.

    None, too, where it can't be asked: the log says why.
    """
    # Exception: of a tokenizer that can't be asked here, the model itself says what is wrong.
    try:
        return find_vocabulary(model)
    except Exception as error:
        _tell_why(error)
        return None


def understanding(vocabulary: Vocabulary | None, prompts: Sequence[str]) -> Understanding | None:
    """What a model makes of prompts; None without its tokenizer, or where the log says why."""
    if vocabulary is None:
        return None
    # Exception: as above; a chat template may refuse what it is given.
    try:
        return Understanding.of(vocabulary, prompts)
    except Exception as error:
        _tell_why(error)
        return None


def _tell_why(error: Exception) -> None:
    said = str(error) if isinstance(error, MfsynthError) else f"{type(error).__name__}: {error}"
    _tell_once(one_line(said, _MOST_OF_A_REASON))


# Workers ask anew for every shard.
@lru_cache(maxsize=16)
def _tell_once(reason: str) -> None:
    _log.warning("what the model knows of its prompts can't be told: %s", reason)
