"""Prompts to hidden states, in the way of FLUX.2 [klein]."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mfsynth.models.acceleration.offloading import on_device

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


def encode_prompts(
    text_encoder: Any,
    tokens: dict[str, Tensor],
    layers: Sequence[int],
    batch_size: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Encode prompts some at a time, with no more of the text encoder than they need.

    What is needed of the encoder is on the device for that long, and the result where the encoder
    is kept: of an encoder in main memory, the device never holds more than a batch's hidden states.

    Args:
        text_encoder: A transformers model with `embed_tokens`, `layers` and `norm`, such as Qwen3,
            or a language model of one.
        tokens: From `tokenize`, of N prompts.
        layers: Indices into its hidden states, as those of `encode_tokens`.
        batch_size: Prompts that are encoded together.
        device: Where to encode.
        dtype: Of the result.

    Returns:
        (N, L, C), as from `encode_tokens`, on the text encoder's own device.
    """
    needed = needed_part(text_encoder, layers)
    home, shape = needed.device, tokens["input_ids"].shape
    channels = len(layers) * needed.config.hidden_size
    states = torch.empty(*shape, channels, dtype=dtype, device=home)
    with torch.no_grad(), on_device(needed, device):
        for at in range(0, len(states), batch_size):
            rows = slice(at, at + batch_size)
            part = {name: value[rows].to(device) for name, value in tokens.items()}
            states[rows] = encode_tokens(needed, part, layers).to(home, dtype)
    return states


def encode_tokens(text_encoder: Any, tokens: dict[str, Tensor], layers: Sequence[int]) -> Tensor:
    """Concatenate the hidden states of some layers of a language model.

    No other hidden states are kept, and nothing behind the last of these layers is computed.

    Args:
        text_encoder: As that of `encode_prompts`.
        tokens: From `tokenize`, on the encoder's device.
        layers: Indices into what transformers calls `hidden_states`: 0 is the embedding, n what
            layer n puts out, of the last layer its norm; (9, 18, 27) in the released pipeline.

    Returns:
        (B, L, len(layers) · hidden size). Padding positions carry values too, and the transformer
        attends to them, as in the release.
    """
    needed = needed_part(text_encoder, layers)
    outputs = [needed.embed_tokens, *needed.layers[:-1], needed.norm]
    states: dict[int, Tensor] = {}
    hooks = [
        outputs[layer].register_forward_hook(
            lambda _module, _given, output, layer=layer: states.update({layer: output})
        )
        for layer in set(layers)
    ]
    try:
        needed(**tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([states[layer] for layer in layers], dim=-1)


def needed_part(text_encoder: Any, layers: Sequence[int]) -> Any:
    """What of a text encoder makes the hidden states of some layers, as a model of its own.

    It shares its modules with the whole model, which stays what it was. Of Qwen3 8B and the
    released layers, it is 5.8 of 8.2 B parameters.
    """
    model = text_encoder.base_model
    last = max(layers)
    if last >= len(model.layers):
        return model
    part = copy.copy(model)
    # The norm belongs to the last layer of the whole model.
    part._modules = {**model._modules, "layers": model.layers[:last], "norm": nn.Identity()}
    # One that offloading has put there is the whole model's.
    part.__dict__.pop("forward", None)
    return part
