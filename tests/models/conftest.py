"""What tests of models share: a released checkpoint, its text encoder, its conversion."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from released_checkpoints import CHECKPOINT, save_text_encoder

from mfsynth.models.conversion import convert


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory) -> Path:
    """A language model with the 27 layers that the release reads, of 16 channels."""
    return save_text_encoder(tmp_path_factory.mktemp("text") / "tiny-qwen3")


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
