"""Prompt encoding against diffusers' FLUX.2 [klein] pipeline, with a tiny random Qwen3."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from diffusers import Flux2KleinPipeline
from live_bytes import LiveBytes
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models.locations import find_model
from mfsynth.models.text import encode_prompts, encode_tokens, needed_part, tokenize
from mfsynth.models.vocabulary import Vocabulary, find_vocabulary

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


@torch.no_grad()
def test_nothing_behind_the_last_needed_layer_is_computed_or_moved(tokenizer, qwen):
    tokens = tokenize(tokenizer, PROMPTS, 16)
    states = qwen(**tokens, output_hidden_states=True).hidden_states
    ran = []
    hooks = [
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, part in qwen.named_modules()
        if name.count(".") <= 2
    ]
    ours = encode_tokens(qwen, tokens, (0, 2))
    for hook in hooks:
        hook.remove()
    assert torch.equal(ours, torch.cat([states[0], states[2]], dim=-1))
    assert {"model.layers.0", "model.layers.1"} < {*ran}
    assert not {"model.layers.2", "model.norm", "lm_head"} & {*ran}
    names = {name for name, _ in needed_part(qwen, (0, 2)).named_parameters()}
    assert {name.split(".")[1] for name in names if name.startswith("layers.")} == {"0", "1"}
    # The whole model is as it was.
    again = qwen(**tokens, output_hidden_states=True).hidden_states
    assert all(torch.equal(one, other) for one, other in zip(again, states, strict=True))


def encode(qwen, count, length, batch_size, layers, device="cpu"):
    """Returns the hidden states, and the bytes that were held beside them and the tokens."""
    ids = torch.ones(count, length, dtype=torch.int64)
    tokens = {"input_ids": ids, "attention_mask": ids}
    device = torch.device(device)
    with LiveBytes() as live:
        states = encode_prompts(qwen, tokens, layers, batch_size, device=device, dtype=qwen.dtype)
    return states, live.peak - states.nbytes - ids.nbytes


def test_more_prompts_take_no_more_memory_than_a_batch_of_them(qwen):
    few, of_few = encode(qwen, 8, 64, 4, (1, 2))
    many, of_many = encode(qwen, 64, 64, 4, (1, 2))
    assert (few.shape, many.shape) == ((8, 64, 32), (64, 64, 32))
    assert of_many == of_few
    assert encode(qwen, 64, 64, 2, (1, 2))[1] < 0.6 * of_many
    assert torch.equal(many[:8], few)


def test_encoding_for_the_released_model_takes_what_the_docs_say(monkeypatch):
    """docs/reference/sampling.md has these figures: 11.7 GB of weights, .14 GB for each prompt."""
    # It asks what values a mask has, and on the meta device there are none.
    monkeypatch.setattr("transformers.masking_utils.fast_all", lambda mask: False)
    sizes = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    with torch.device("meta"):
        config = Qwen3Config(vocab_size=151936, **sizes, **heads)
        qwen = Qwen3ForCausalLM(config).to(torch.bfloat16)
    states, beside = encode(qwen, 8, 512, 4, (9, 18, 27), "meta")
    assert states.shape == (8, 512, 12288)
    weights = sum(value.nbytes for value in needed_part(qwen, (9, 18, 27)).parameters())
    assert sum(value.nbytes for value in qwen.parameters()) == pytest.approx(16.4e9, rel=0.01)
    assert weights == pytest.approx(11.7e9, rel=0.01)
    assert 0.13e9 < (beside - weights) / 4 < 0.17e9


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


def test_what_a_model_gets_of_a_prompt_is_known_without_torch(tmp_path, tiny_model_dir):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    qwen_like = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<pad>",
        pad_token="<|im_end|>",
        chat_template=TEMPLATE,
    )
    qwen_like.save_pretrained(tmp_path)
    embedded = find_model("embedded").path / "tokenizer"
    prompts = [*PROMPTS, "a mug, seen from above", "{{ 7 * 7 }}"]
    for folder in (tmp_path, embedded, tiny_model_dir / "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokens = tokenize(tokenizer, prompts, 64)
        unknown = (tokens["input_ids"] == tokenizer.unk_token_id) & (tokens["attention_mask"] > 0)
        readings = Vocabulary(folder, 64).read(prompts)
        assert [each.tokens for each in readings] == tokens["attention_mask"].sum(1).tolist()
        assert [len(each.unknown) for each in readings] == unknown.sum(1).tolist()
    assert find_vocabulary(ModelConfig()).read(["a mug, seen"])[0].unknown == ()
    assert find_vocabulary(ModelConfig()).read(["a pan"])[0].unknown == ("pan",)


def test_tokens_of_older_files_are_read_and_a_tokenizer_without_a_template_is_told(tmp_path):
    folder = shutil.copytree(find_model("embedded").path / "tokenizer", tmp_path / "tokenizer")
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["unk_token"] = {"__type": "AddedToken", "content": config["unk_token"], "lstrip": False}
    file.write_text(json.dumps(config))
    assert Vocabulary(folder, 64).read(["a pan"])[0].unknown == ("pan",)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(MfsynthError, match=r"tokenizer_config\.json: has no chat_template"):
        Vocabulary(folder, 64)


def test_a_tokenizer_without_an_unknown_token_knows_every_word(tmp_path):
    parts = ["N", "o", "n", "e", "No", "Non", "None"]
    merges = [("N", "o"), ("No", "n"), ("Non", "e")]
    core = Tokenizer(models.BPE({part: i for i, part in enumerate(parts)}, merges))
    named = PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template="{{ messages[0].content }}"
    )
    named.save_pretrained(tmp_path)
    assert Vocabulary(tmp_path, 8).read(["None"])[0].unknown == ()
