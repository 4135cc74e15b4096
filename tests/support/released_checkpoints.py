"""Checkpoints in the released layout that tests copy, damage, hollow out and put on a hub."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen3ForCausalLM

from mfsynth.errors import MfsynthError
from mfsynth.models.conversion import convert
from mfsynth.models.released.names import transformer_layout
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.config import TransformerConfig
from mfsynth.training.small_text_encoder import build_text_encoder, build_tokenizer

GRID = (3, 4)
PROMPTS = ["a red cube on a table", "a blue ball"]
CHECKPOINT = (
    "config.json",
    "model.safetensors",
    "ae_config.json",
    "ae_encoder.safetensors",
    "ae_decoder.safetensors",
)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def forward(transformer: Any, vectors: Mapping[str, Tensor]) -> Any:
    names = ("rgb", "depth", "ctx", "t_rgb", "t_depth")
    with torch.no_grad():
        return transformer(*(vectors[f"fwd.{name}"] for name in names), GRID)


def assert_forward_matches(transformer: Any, reference: Path) -> None:
    vectors = load_file(reference / "vectors.safetensors")
    output = forward(transformer, vectors)
    assert relative_error(output.rgb, vectors["fwd.out_rgb"]) < 1e-4
    assert relative_error(output.depth, vectors["fwd.out_depth"]) < 1e-4


def change(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def set_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def in_hub_cache(cache: Path, repository: str, source: Path) -> str:
    """Put a folder where a hub repository would be after its download; returns its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(source, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return commit


def refusal(source: Path, **options: Any) -> str:
    """The one line with which a conversion is refused; nothing may be left of it."""
    destination = source.parent / "new" / "model"
    with pytest.raises(MfsynthError) as caught:
        convert(source, destination, **options)
    assert not destination.parent.exists() or not list(destination.parent.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_hollow(path: Path, layout: dict[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A safetensors file with a true header and a hole where the data would be."""
    width = {"BF16": 2, "F32": 4}[dtype]
    header, end = {}, 0
    for key, shape in layout.items():
        start, end = end, end + width * int(np.prod(shape))
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)


def write_hollow_transformer(path: Path, **sizes: Any) -> None:
    with torch.device("meta"):
        model = ModalityForcingTransformer2DModel(**sizes)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    write_hollow(path, transformer_layout(shapes))


def save_text_encoder(folder: Path) -> Path:
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
    config = build_text_encoder(sizes, len(tokenizer)).config
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
