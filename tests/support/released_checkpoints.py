"""Checkpoints in the released layout that tests copy, damage, hollow out and put on a hub."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mfsynth.errors import MfsynthError
from mfsynth.models.conversion import convert
from mfsynth.models.released.names import transformer_layout
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

GRID = (3, 4)
PROMPTS = ["a red cube on a table", "a blue ball"]
CHECKPOINT = (
    "config.json",
    "model.safetensors",
    "ae_config.json",
    "ae_encoder.safetensors",
    "ae_decoder.safetensors",
)


def relative_error(ours, theirs) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def forward(transformer, vectors):
    names = ("rgb", "depth", "ctx", "t_rgb", "t_depth")
    with torch.no_grad():
        return transformer(*(vectors[f"fwd.{name}"] for name in names), GRID)


def assert_forward_matches(transformer, reference):
    vectors = load_file(reference / "vectors.safetensors")
    output = forward(transformer, vectors)
    assert relative_error(output.rgb, vectors["fwd.out_rgb"]) < 1e-4
    assert relative_error(output.depth, vectors["fwd.out_depth"]) < 1e-4


def change(path: Path, edit) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def set_config(folder: Path, **values) -> None:
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


def refusal(source: Path, **options) -> str:
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


def write_hollow_transformer(path: Path, **sizes) -> None:
    with torch.device("meta"):
        model = ModalityForcingTransformer2DModel(**sizes)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    write_hollow(path, transformer_layout(shapes))
