"""Weights are compared with what their class expects before they are loaded, at every door."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import SIZE, flux2_config, save_flux2
from training_files import one_line_error
from transformers import AutoModel, Qwen3Config, Qwen3ForCausalLM

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline
from mfsynth.models.estimators.embedded import DepthEstimator, load_estimator
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.weights import require_weights
from mfsynth.training.build import build_components

TEXT, BODY = "model.safetensors", "diffusion_pytorch_model.safetensors"


def lacking(weights):
    return {name: weights[name] for name in sorted(weights)[1:]}


def with_more(weights):
    return weights | {"more.weight": torch.ones(1)}


def misshapen(weights):
    first = min(weights)
    return weights | {first: torch.ones(3, 2, 1)}


def mistyped(weights):
    first = min(weights)
    return weights | {first: weights[first].to(torch.uint8)}


FAULTS = {
    lacking: r"1 missing \(",
    with_more: r"1 extra \(more\.weight\)",
    misshapen: r"1 of another shape \(.* is 3×2×1, not ",
    mistyped: r"1 of a type that is not float32, float16 or bfloat16 \(.* is U8\)",
}


def change(file: Path, fault) -> None:
    save_file(
        {name: value.contiguous() for name, value in fault(load_file(file)).items()},
        file,
        {"format": "pt"},
    )


@pytest.fixture
def model(tiny_model_dir, tmp_path):
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", [f"text_encoder/{TEXT}", f"transformer/{BODY}"])
def test_a_model_folder_with_other_weights_is_refused(model, file, fault):
    change(model / file, fault)
    expected = rf"model\.id: {model}/{file.split('/')[0]}: not the weights of a \w+: "
    with one_line_error(expected + FAULTS[fault] + ".*; fetch or convert the model again"):
        load_pipeline(ModelConfig(id=str(model)), "cpu")
    with one_line_error(FAULTS[fault]):
        ModalityForcingPipeline.from_pretrained(model)


def test_a_model_without_a_file_of_weights_is_refused(model):
    (model / "transformer" / BODY).unlink()
    with one_line_error(r"model\.id: .*transformer: no weights \(diffusion_pytorch_model"):
        load_pipeline(ModelConfig(id=str(model)), "cpu")
    (model / "transformer" / f"{BODY}.index.json").write_text(
        json.dumps({"weight_map": {"proj_out.weight": "gone.safetensors"}})
    )
    with one_line_error(r"transformer/gone\.safetensors: no such file"):
        load_pipeline(ModelConfig(id=str(model)), "cpu")
    shutil.rmtree(model / "text_encoder")
    with one_line_error(r"text_encoder/config\.json: not readable as JSON"):
        load_pipeline(ModelConfig(id=str(model)), "cpu")


def test_a_configuration_that_says_a_thing_twice_or_makes_no_model_is_refused(model):
    file = model / "transformer" / "config.json"
    before = file.read_text()
    file.write_text(before.replace("{", '{"rope_theta": 7,', 1))
    with one_line_error(r"transformer/config\.json: .*the key 'rope_theta' is there twice"):
        load_pipeline(ModelConfig(id=str(model)), "cpu")
    file.write_text(json.dumps(json.loads(before) | {"num_layers": "many"}))
    with one_line_error(r"transformer: its config\.json makes no ModalityForcing"):
        load_pipeline(ModelConfig(id=str(model)), "cpu")


def test_a_part_that_is_given_is_not_looked_for(model):
    whole = ModalityForcingPipeline.from_pretrained(model)
    change(model / "text_encoder" / TEXT, lacking)
    again = ModalityForcingPipeline.from_pretrained(model, text_encoder=whole.text_encoder)
    assert again.text_encoder is whole.text_encoder


def test_a_part_of_an_unknown_library_is_refused(model):
    index = json.loads((model / "model_index.json").read_text())
    index["text_encoder"] = ["os", "Qwen3Model"]
    (model / "model_index.json").write_text(json.dumps(index))
    with one_line_error(r"model_index\.json: text_encoder is of os, not of diffusers"):
        ModalityForcingPipeline.from_pretrained(model)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_estimator_with_other_weights_is_refused(tmp_path, fault):
    DepthEstimator((8, 16), 1, SIZE).save_pretrained(tmp_path)
    change(tmp_path / BODY, fault)
    with one_line_error(rf"{tmp_path}: not the weights of a DepthEstimator: " + FAULTS[fault]):
        load_estimator(str(tmp_path))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("part", ["text_encoder", "vae", "transformer"])
def test_a_training_from_other_weights_is_refused(tmp_path, part, fault):
    folder = save_flux2(tmp_path / "flux2")
    change(folder / part / (TEXT if part == "text_encoder" else BODY), fault)
    with one_line_error(
        rf"pretrained\.id: {folder / part}: not the weights of a \w+: " + FAULTS[fault]
    ):
        build_components(flux2_config(folder, tmp_path), ["a red cube"])


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_models_file_is_a_base_models_too(tmp_path, tied):
    config = Qwen3Config(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    assert ("lm_head.weight" in load_file(tmp_path / TEXT)) is not tied
    require_weights(Qwen3ForCausalLM, tmp_path)
    require_weights(AutoModel, tmp_path)
    AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path / "base")
    require_weights(AutoModel, tmp_path / "base")
    if tied:
        require_weights(Qwen3ForCausalLM, tmp_path / "base")
    else:
        with one_line_error(r"1 missing \(lm_head\.weight\)"):
            require_weights(Qwen3ForCausalLM, tmp_path / "base")
    change(tmp_path / TEXT, lambda weights: weights | {"score.weight": torch.ones(1)})
    with one_line_error(r"1 extra \(score\.weight\)"):
        require_weights(AutoModel, tmp_path)


LAYER = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
DOWN, UP = LAYER.format("A"), LAYER.format("B")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({DOWN: (4, 32)}, r"1 missing \(.*lora_B\.weight\)"),
        (
            {DOWN: (4, 32), UP: (32, 3)},
            r"1 of another shape \(.*lora_B\.weight is 32×3, not 32×4\)",
        ),
        (
            {DOWN: (4, 31), UP: (32, 4)},
            r"1 of another shape \(.*lora_A\.weight is 4×31, not 4×32\)",
        ),
        (
            {DOWN.replace("to_q", "to_x"): (4, 32), UP.replace("to_q", "to_x"): (32, 4)},
            r"2 extra \(.*to_x\.lora_A",
        ),
        ({DOWN: (4, 32), UP: (32, 4), "unet.down.lora_A.weight": (1, 1)}, r"1 extra \(unet\."),
    ],
)
def test_adapters_that_do_not_fit_are_refused(model, adapter, message):
    pytest.importorskip("peft")
    pipeline = ModalityForcingPipeline.from_pretrained(model)
    weights = {name: torch.ones(shape) for name, shape in adapter.items()}
    with pytest.raises(MfsynthError, match="no adapters of this transformer: " + message):
        pipeline.load_lora_weights(weights)
    assert not hasattr(pipeline.transformer, "peft_config")
