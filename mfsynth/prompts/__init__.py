"""Prompts: a grammar with random access by candidate number, and plain files of prompts."""

from __future__ import annotations

from mfsynth.prompts.grammar import Grammar
from mfsynth.prompts.hashing import derive_seed, text_id
from mfsynth.prompts.library import load_library
from mfsynth.prompts.opening import open_prompts
from mfsynth.prompts.prompt import Prompt, PromptSource

__all__ = [
    "Grammar",
    "Prompt",
    "PromptSource",
    "derive_seed",
    "load_library",
    "open_prompts",
    "text_id",
]
