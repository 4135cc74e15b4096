"""The words that a small model reads."""

from __future__ import annotations

from mfsynth.training.small_text_encoder import build_tokenizer


def test_function_words_and_punctuation_take_no_token():
    tokenizer = build_tokenizer(["a red cube and an orange ball on a table, seen from above"])
    words = tokenizer.tokenize("On the Table: an orange cube, seen from above")
    assert words == ["table", "orange", "cube", "above"]
    assert tokenizer.tokenize("a tinted giraffe") == ["<unknown>", "<unknown>"]


def test_all_words_of_the_captions_are_known_however_many():
    words = [f"word{number}" for number in range(30_100)]
    tokenizer = build_tokenizer([" ".join(words), "word0"])
    assert len(tokenizer) == len(words) + 3
    assert tokenizer.unk_token_id not in tokenizer.convert_tokens_to_ids(words)


def test_the_empty_prompt_has_a_token_to_attend_to():
    tokenizer = build_tokenizer(["a red cube"])
    message = [{"role": "user", "content": ""}]
    text = tokenizer.apply_chat_template(message, tokenize=False)
    assert tokenizer.tokenize(text) == ["<start>"]
