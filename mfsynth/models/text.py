"""Prompts to hidden states, in the way of FLUX.2 [klein]."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


def tokenize(tokenizer: Any, prompts: Sequence[str], max_length: int) -> dict[str, Tensor]:
    """Tokenise prompts as a user's turn, with the generation prompt and without thinking.

    Args:
        tokenizer: A tokenizer with a chat template.
        prompts: B texts; the empty string gives the unconditional input of guidance.
        max_length: L; shorter prompts are padded on the right, longer ones cut, with a warning;
            words without a token get a warning too.

    Returns:
        `input_ids` and `attention_mask`, (B, L) int64 each.
    """
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        for prompt in prompts
    ]
    for prompt, ids in zip(prompts, tokenizer(texts)["input_ids"], strict=True):
        if len(ids) > max_length:
            _log.warning("prompt of %d tokens cut to %d: %s", len(ids), max_length, prompt)
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            _log.warning("prompt with words that the model does not know: %s", prompt)
    encoded = tokenizer(
        texts,
        return_tensors="pt",
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=max_length,
    )
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def encode_tokens(text_encoder: Any, tokens: dict[str, Tensor], layers: Sequence[int]) -> Tensor:
    """Concatenate the hidden states of some layers of a causal language model.

    Args:
        text_encoder: A transformers model, Qwen3 in the released pipeline.
        tokens: From `tokenize`, on the encoder's device.
        layers: Indices into `hidden_states`; (9, 18, 27) in the released pipeline.

    Returns:
        (B, L, len(layers) · hidden size). Padding positions carry values too, and the transformer
        attends to them, as in the release.
    """
    states = text_encoder(**tokens, output_hidden_states=True, use_cache=False).hidden_states
    return torch.cat([states[layer] for layer in layers], dim=-1)
