"""Prompt encoding against diffusers' FLUX.2 [klein] pipeline, with a tiny random Qwen3."""

from __future__ import annotations

import logging

import pytest
import torch
from diffusers import Flux2KleinPipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from mfsynth.models.text import encode_tokens, tokenize

WORDS = ["<pad>", "<|im_start|>", "<|im_end|>", "<think>", "user", "assistant", "a", "red", "cube"]
# Qwen3's turns, and what it puts where thinking is off.
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant"
    "{% if enable_thinking is false %} <think>{% endif %}{% endif %}"
)
PROMPTS = ["a red cube", "", "red"]


@pytest.fixture(scope="module")
def tokenizer():
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", chat_template=TEMPLATE, padding_side="left"
    )


@pytest.fixture(scope="module")
def qwen():
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    ).eval()


@pytest.mark.parametrize("length", [16, 6])
@torch.no_grad()
def test_encoding_is_that_of_flux2_klein(tokenizer, qwen, length):
    tokenizer.padding_side = "right"
    reference = Flux2KleinPipeline._get_qwen3_prompt_embeds(
        qwen, tokenizer, PROMPTS, max_sequence_length=length, hidden_states_layers=[1, 2, 4]
    )
    ours = encode_tokens(qwen, tokenize(tokenizer, PROMPTS, length), (1, 2, 4))
    torch.testing.assert_close(ours, reference)
    assert ours.shape == (3, length, 48)


def test_a_user_turn_with_the_generation_prompt_and_without_thinking_padded_on_the_right(tokenizer):
    tokenizer.padding_side = "left"
    tokens = tokenize(tokenizer, ["red"], 9)
    words = [WORDS[i] for i in tokens["input_ids"][0]]
    turn = ["<|im_start|>", "user", "red", "<|im_end|>", "<|im_start|>", "assistant", "<think>"]
    assert words == [*turn, "<pad>", "<pad>"]
    assert tokens["attention_mask"][0].tolist() == [1] * 7 + [0] * 2


def test_a_prompt_that_is_cut_gets_a_warning_that_names_it(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        tokens = tokenize(tokenizer, ["red", "a red red red cube"], 8)
    assert tokens["input_ids"].shape == (2, 8)
    [message] = [record.getMessage() for record in caplog.records]
    assert "11 tokens cut to 8" in message
    assert "a red red red cube" in message


def test_words_that_the_model_does_not_know_get_a_warning(caplog):
    from mfsynth.training.small_text_encoder import build_tokenizer

    with caplog.at_level(logging.WARNING):
        tokenize(build_tokenizer(["a red cube"]), ["a red cube", "a red giraffe"], 8)
    [message] = [record.getMessage() for record in caplog.records]
    assert "does not know" in message
    assert "giraffe" in message
