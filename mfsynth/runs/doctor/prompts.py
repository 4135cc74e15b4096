"""Prompts, held against what the model's tokenizer knows."""

from __future__ import annotations

from collections.abc import Sequence

from mfsynth.config import ModelConfig
from mfsynth.runs.doctor.findings import Finding, note, ok, warning
from mfsynth.runs.understanding import REMEDY, understanding, vocabulary_of


def prompts_are_known(model: ModelConfig, prompts: Sequence[str]) -> Finding:
    """How many prompts have words that the model can't know, or more than it reads."""
    found = understanding(vocabulary_of(model), prompts)
    if found is None:
        return note("not compared: the model's tokenizer is not here, or can't be asked")
    if found.trouble:
        return warning(found.trouble, REMEDY)
    return ok(f"the model knows all words of {found.prompts} prompts, and reads them whole")
