"""`mfsynth model`: convert and info."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3Model

from mfsynth.cli import main
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.small_text_encoder import build_tokenizer


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "tiny-qwen3"
    tokenizer = build_tokenizer(["a red cube"])
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=27,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
    )
    Qwen3Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def mfsynth(capsys):
    def run(*arguments) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return [str(ended.value.code), *(shown.err if ended.value.code else shown.out).splitlines()]

    return run


def test_convert_makes_a_model_of_which_info_tells_the_same(
    mfsynth, reference, text_encoder, tmp_path
):
    converted = tmp_path / "model"
    options = ("--text-encoder", text_encoder, "--licence", "mit", "--shard-size", "1MB")
    status, *lines = mfsynth("model", "convert", reference, converted, *options)
    assert status == "0"
    assert "transformer: file 1 of 4" in lines
    assert lines[-1] == f"model: {converted}"

    status, *lines = mfsynth("model", "info", converted)
    assert status == "0"
    assert f"id: {converted}" in lines
    assert "class: ModalityForcingPipeline (diffusers layout)" in lines
    assert "licence: mit" in lines
    assert "native size: 512×512" in lines
    assert "text: 512 tokens, hidden states 9, 18, 27" in lines
    model = ModalityForcingTransformer2DModel.from_pretrained(converted / "transformer")
    parameters = sum(value.numel() for value in model.parameters())
    transformer = (
        f"transformer: ModalityForcingTransformer2DModel, {parameters:,} parameters, float32"
    )
    assert transformer in lines

    _, *released = mfsynth("model", "info", reference / "model.safetensors")
    assert "class: ModalityForcingPipeline (released layout)" in released
    assert "text_encoder: Qwen/Qwen3-8B, weights not among its files" in released
    assert transformer in released
    vae = next(line for line in lines if line.startswith("vae: "))
    assert vae in released


def test_info_counts_the_embedded_model_by_headers_and_types(mfsynth):
    status, *lines = mfsynth("model", "info", "embedded")
    assert status == "0"
    folder = Path(__file__).parents[2] / "mfsynth/models/embedded/transformer"
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors").values()
    assert {value.dtype for value in tensors} == {torch.bfloat16, torch.float32}
    count = sum(value.numel() for value in tensors)
    assert (
        f"transformer: ModalityForcingTransformer2DModel, {count:,} parameters, "
        "bfloat16 and float32"
    ) in lines
    assert "licence: apache-2.0" in lines
    assert not any(line.startswith("vae") for line in lines)


def test_info_says_which_weights_are_not_there(mfsynth, tiny_model_dir, tmp_path):
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    _, *lines = mfsynth("model", "info", folder)
    assert "vae: AutoencoderKLFlux2, weights not among its files" in lines
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut off")
    status, line = mfsynth("model", "info", folder)
    assert status == "1"
    assert "diffusion_pytorch_model.safetensors: not a whole safetensors file" in line


def test_a_conversion_that_is_refused_is_one_line(mfsynth, reference, tmp_path):
    status, line = mfsynth("model", "convert", reference, tmp_path)
    assert status == "1"
    assert line == f"error: {tmp_path} exists; name a folder that does not"
    status, line = mfsynth("model", "info", tmp_path / "nothing")
    assert status == "1"
    assert line.startswith("error: ")
