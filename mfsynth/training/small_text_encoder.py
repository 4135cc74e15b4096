"""The text side of a small, self-contained model: tokenizer and text encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from mfsynth.training.config import TransformerConfig

START, PAD, UNKNOWN = "<start>", "<pad>", "<unknown>"

# Every token costs as much as a patch of the image, and these words tell a small model nothing.
_FUNCTION_WORDS = (
    *("a", "an", "and", "are", "as", "at", "by", "from", "in", "is", "it", "of", "on", "or"),
    *("seen", "that", "the", "there", "to", "with"),
)


def build_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer of one token for each word of the captions that isn't a function word.

    Its chat template puts a start token before the user's words, so that the empty prompt, too,
    has a position to attend to.
    """
    core = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    left_out = Regex(rf"\b({'|'.join(_FUNCTION_WORDS)})\b|[^\w\s<>]")
    core.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(left_out, " ")]
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    # Sorted, so that equally frequent words get their numbers independently of the captions' order.
    words = trainers.WordLevelTrainer(
        # All words: by default, those beyond the 30,000 most frequent are dropped without a word.
        vocab_size=sys.maxsize,
        special_tokens=[PAD, UNKNOWN, START],
        show_progress=False,
    )
    core.train_from_iterator(sorted(captions), words)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        padding_side="right",
        chat_template="{{ bos_token }}{% for message in messages %} {{ message.content }}"
        "{% endfor %}",
    )


def build_text_encoder(config: TransformerConfig, vocabulary_size: int) -> Qwen3Model:
    """Build a small Qwen3 with random weights; every layer's output conditions the transformer."""
    channels = config.text_channels
    return Qwen3Model(
        Qwen3Config(
            vocab_size=vocabulary_size,
            hidden_size=channels,
            intermediate_size=3 * channels,
            num_hidden_layers=config.text_layers,
            num_attention_heads=channels // 16,
            num_key_value_heads=channels // 16,
            head_dim=16,
            max_position_embeddings=config.text_length,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=0,
        )
    )


def text_encoder_layers(config: TransformerConfig) -> tuple[int, ...]:
    """Indices into `hidden_states`, of which 0 is the embedding."""
    return tuple(range(1, config.text_layers + 1))
