"""The text encoder that a released checkpoint is used with: a folder or hub id of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import (
    CHECKPOINT,
    CONFIG,
    INDEX_SUFFIX,
    RELEASED_TEXT_LAYERS,
    download,
)
from mfsynth.models.tensor_files import weight_files
from mfsynth.models.weights import require_weights_of

_PATTERNS = ["*.json", "*.txt", "*.jinja", "*.safetensors"]


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder that fits a transformer, its weights not yet read.

    Attributes:
        name: Hub id, or name of the folder.
        folder: Its files on this machine.
        files: Names of its configuration and weights.
        model: The model without weights, on the meta device.
        tokenizer: Its tokenizer, with a chat template.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    model: Any
    tokenizer: Any

    def load(self, dtype: torch.dtype) -> Any:
        """Load the weights."""
        return type(self.model).from_pretrained(self.folder, dtype=dtype).eval()

    def save(self, folder: Path) -> None:
        """Write the sub-folders `text_encoder` and `tokenizer` of a diffusers folder."""
        target = folder / "text_encoder"
        target.mkdir()
        for name in self.files:
            shutil.copyfile(self.folder / name, target / name)
        self.tokenizer.save_pretrained(folder / "tokenizer")


def find_text_encoder(
    name: str | Path, channels: int, *, local_files_only: bool = False
) -> TextEncoder:
    """Find a text encoder and check from its small files and headers that it fits.

    Args:
        name: Folder with a transformers model and its tokenizer, or hub id of one.
        channels: Of a text token, as the transformer expects it: those of all hidden states that
            the release concatenates.
        local_files_only: Whether a hub model must already be on this machine.

    Raises:
        MfsynthError: There is none, or it lacks weights, a chat template, layers or channels.
    """
    folder = Path(name).expanduser()
    is_local = folder.is_dir()
    if not is_local:
        try:
            folder = download(str(name), None, _PATTERNS, local_files_only)
        except MfsynthError as error:
            raise MfsynthError(
                f"text encoder {error}; or name another one with --text-encoder"
            ) from error
    try:
        config = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        width, depth = config.hidden_size, config.num_hidden_layers
    except (OSError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise MfsynthError(
            f"text encoder {folder}: not a transformers model with its tokenizer ({reason})"
        ) from error
    layers = RELEASED_TEXT_LAYERS
    if max(layers) > depth or width * len(layers) != channels:
        raise MfsynthError(
            f"text encoder {folder}: {depth} layers of {width} channels do not give hidden states "
            f"{', '.join(map(str, layers))} of {channels // len(layers)} channels each"
        )
    if getattr(tokenizer, "chat_template", None) is None:
        raise MfsynthError(f"text encoder {folder}: its tokenizer has no chat template")
    try:
        files = [file.name for file in weight_files(folder)]
        require_weights_of(model, folder)
    except MfsynthError as error:
        raise MfsynthError(f"text encoder {error}") from error
    index = f"{CHECKPOINT}{INDEX_SUFFIX}"
    if (folder / index).is_file():
        files.append(index)
    shown = folder.resolve().name if is_local else str(name)
    return TextEncoder(shown, folder, (CONFIG, *files), model, tokenizer)
