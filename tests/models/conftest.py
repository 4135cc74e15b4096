"""What tests of models share: a released checkpoint, its text encoder, its conversion."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from released_checkpoints import CHECKPOINT, PROMPTS
from transformers import Qwen3ForCausalLM

from mfsynth.models.conversion import convert
from mfsynth.training.config import TransformerConfig
from mfsynth.training.small_text_encoder import build_text_encoder, build_tokenizer


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory) -> Path:
    """A language model with the 27 layers that the release reads, of 16 channels."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(PROMPTS)
    sizes = TransformerConfig(
        patch=8,
        rgb_bands=(4, 2),
        layers=1,
        single_layers=1,
        depth_decoder_layers=1,
        heads=2,
        head_dim=16,
        rope_axes=(4, 4, 4, 4),
        rope_theta=100,
        text_length=512,
        text_layers=28,
        text_channels=16,
    )
    folder = tmp_path_factory.mktemp("text") / "tiny-qwen3"
    config = build_text_encoder(sizes, len(tokenizer)).config
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def converted(reference, text_encoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "model"
    convert(reference, folder, text_encoder=text_encoder)
    return folder


@pytest.fixture
def checkpoint(reference, tmp_path) -> Path:
    """A copy of the reference checkpoint, to be damaged."""
    folder = tmp_path / "released"
    folder.mkdir()
    for name in CHECKPOINT:
        shutil.copy(reference / name, folder / name)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache
