"""What a model's tokenizer makes of prompts, without torch and before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models.locations import (
    RELEASED_TEXT_ENCODER,
    RELEASED_TEXT_LENGTH,
    Layout,
    download,
    find_model,
    pipeline_index,
    read_json,
)

_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
_FILES = [_TOKENIZER, _TOKENIZER_CONFIG, _TEMPLATE]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model gets of a prompt.

    Attributes:
        tokens: How many it has, those of the chat template included.
        unknown: Its words that are no token, in order.
    """

    tokens: int
    unknown: tuple[str, ...]


class Vocabulary:
    """The tokenizer of a model, as far as prompts are concerned.

    Args:
        folder: Of the tokenizer.
        length: Tokens that the model reads; longer prompts are cut.

    Raises:
        MfsynthError: A file is not what it should be.
    """

    def __init__(self, folder: Path, length: int) -> None:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from tokenizers import Tokenizer

        self.length = length
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / _TOKENIZER))
        # The package raises nothing more special.
        except Exception as error:
            raise MfsynthError(f"{folder / _TOKENIZER}: not a tokenizer ({error})") from error
        config = read_json(folder / _TOKENIZER_CONFIG)
        tokens = {name: config[name] for name in config if name.endswith("_token")}
        # Older files say of a token how it is split off, too.
        self._special = {
            name: token["content"] if isinstance(token, dict) else token
            for name, token in tokens.items()
        }
        template = folder / _TEMPLATE
        text = template.read_text() if template.is_file() else config.get("chat_template")
        if not isinstance(text, str):
            raise MfsynthError(
                f"{folder / _TOKENIZER_CONFIG}: has no chat_template, and {_TEMPLATE} isn't there"
            )
        # As transformers has it.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(text)
        unknown = self._special.get("unk_token")
        # A tokenizer of bytes knows every word; "None" is one of them.
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(str(unknown))

    def read(self, prompts: Sequence[str]) -> list[Reading]:
        """What the model gets of each prompt."""
        texts = [
            self._template.render(
                **self._special,
                messages=[{"role": "user", "content": prompt}],
                add_generation_prompt=True,
                enable_thinking=False,
            )
            for prompt in prompts
        ]
        return [
            Reading(
                len(encoded.ids),
                tuple(
                    text[start:end]
                    for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
                    if token == self._unknown
                ),
            )
            for text, encoded in zip(texts, self._tokenizer.encode_batch(texts), strict=True)
        ]


def find_vocabulary(model: ModelConfig) -> Vocabulary | None:
    """The vocabulary of a model; None where its files are not on this machine.

    Raises:
        MfsynthError: They are not what they should be, or there is no such model.
    """
    folder = find_model(model.id, model.revision, weights=False)
    if folder.layout is Layout.RELEASED:
        try:
            text = download(RELEASED_TEXT_ENCODER, None, _FILES, local_files_only=True)
        except MfsynthError:
            return None
        place, length = text, RELEASED_TEXT_LENGTH
    else:
        place = folder.path / "tokenizer"
        length = pipeline_index(folder)["max_text_length"]
    return Vocabulary(place, length) if (place / _TOKENIZER).is_file() else None
