"""From the released layout to a diffusers folder: the same weights, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from released_checkpoints import (
    GRID,
    PROMPTS,
    assert_forward_matches,
    change,
    forward,
    relative_error,
    set_config,
    write_hollow_transformer,
)
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.conversion import convert
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.released.names import CROSS_STREAM_KEYS
from mfsynth.models.text import encode_tokens, tokenize
from mfsynth.models.token_codecs import LatentCodec, patchify
from mfsynth.models.transformer import ModalityForcingTransformer2DModel


def test_the_converted_transformer_matches_the_reference(converted, reference):
    transformer = ModalityForcingTransformer2DModel.from_pretrained(converted / "transformer")
    assert transformer.config.cross_stream_mixing
    assert_forward_matches(transformer, reference)


def test_the_converted_autoencoder_matches_the_reference(converted, reference):
    codec = LatentCodec(ModalityForcingPipeline.from_pretrained(converted).vae)
    vectors = load_file(reference / "ae_vectors.safetensors")
    latents = vectors["ae.latents"]
    with torch.no_grad():
        tokens = codec.encode(vectors["ae.image"])
        images = codec.decode(patchify(latents, 1), GRID)
    assert relative_error(tokens, patchify(latents, 1)) < 1e-4
    assert relative_error(images, vectors["ae.decoded"]) < 1e-4


def test_the_copied_text_encoder_gives_the_hidden_states_of_its_source(converted, text_encoder):
    pipeline = ModalityForcingPipeline.from_pretrained(converted)
    source = Qwen3ForCausalLM.from_pretrained(text_encoder)
    with torch.no_grad():
        ours = pipeline.encode_prompts(PROMPTS)
        tokens = tokenize(pipeline.tokenizer, PROMPTS, 512)
        theirs = encode_tokens(source, tokens, (9, 18, 27))
    assert ours.shape == (2, 512, 48)
    assert relative_error(ours, theirs) < 1e-5


def test_the_converted_folder_is_a_model_that_a_run_can_name(converted):
    info = model_info(ModelConfig(id=str(converted)))
    assert (info.height, info.width, info.licence) == (512, 512, "unknown")
    pipeline = load_pipeline(ModelConfig(id=str(converted)), "cpu")
    assert tuple(pipeline.config.text_encoder_layers) == (9, 18, 27)
    assert pipeline.config.max_text_length == 512
    pairs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=2, height=32, width=48)
    assert pairs.rgb.shape == (2, 32, 48, 3)
    assert np.isfinite(pairs.depth).all()


def test_small_shards_hold_the_same_weights(converted, reference, text_encoder, tmp_path):
    folder = tmp_path / "model"
    convert(reference, folder, text_encoder=text_encoder, max_shard_size="200KB")
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    assert len(shards) > 5
    assert shards[1].name == f"diffusion_pytorch_model-00002-of-{len(shards):05}.safetensors"
    assert all(path.stat().st_size < 220_000 for path in shards)
    sharded = ModalityForcingTransformer2DModel.from_pretrained(folder / "transformer")
    whole = load_file(converted / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, whole[name]) for name, value in sharded.state_dict().items())


def test_a_single_file_with_its_configuration_beside_it_is_a_source(
    converted, reference, text_encoder, tmp_path
):
    convert(reference / "model.safetensors", tmp_path / "model", text_encoder=text_encoder)
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "model" / name).read_bytes() == (converted / name).read_bytes()


def test_bfloat16_stays_but_for_the_depth_head(checkpoint, text_encoder, tmp_path):
    def halve(tensors):
        tensors.update({key: value.bfloat16() for key, value in tensors.items()})

    change(checkpoint / "model.safetensors", halve)
    convert(checkpoint, tmp_path / "model", text_encoder=text_encoder)
    stored = load_file(tmp_path / "model/transformer/diffusion_pytorch_model.safetensors")
    in_float32 = {name for name, value in stored.items() if value.dtype is torch.float32}
    assert in_float32 == {"depth_norm_out.linear.weight", "depth_proj_out.weight"}
    assert stored["x_embedder.weight"].dtype is torch.bfloat16


def test_without_cross_stream_keys_it_is_v1_which_computes_as_closed_gates(
    checkpoint, text_encoder, reference, tmp_path
):
    def close(tensors):
        for key in ("dit.cross_alpha_img", "dit.cross_alpha_depth"):
            tensors[key].zero_()

    change(checkpoint / "model.safetensors", close)
    opened = ModalityForcingPipeline.from_pretrained(checkpoint, text_encoder=text_encoder)
    closed = opened.transformer
    change(
        checkpoint / "model.safetensors",
        lambda tensors: [tensors.pop(key) for key in CROSS_STREAM_KEYS],
    )
    convert(checkpoint, tmp_path / "model", text_encoder=text_encoder)
    v1 = ModalityForcingPipeline.from_pretrained(tmp_path / "model").transformer
    assert closed.config.cross_stream_mixing
    assert not v1.config.cross_stream_mixing
    vectors = load_file(reference / "vectors.safetensors")
    assert relative_error(forward(v1, vectors).rgb, forward(closed, vectors).rgb) < 1e-6
    assert relative_error(forward(v1, vectors).depth, forward(closed, vectors).depth) < 1e-6


def test_a_text_encoder_in_shards_is_copied_whole(reference, text_encoder, tmp_path):
    sharded = shutil.copytree(text_encoder, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    Qwen3ForCausalLM.from_pretrained(text_encoder).save_pretrained(sharded, max_shard_size="50KB")
    convert(reference, tmp_path / "model", text_encoder=sharded)
    copied = ModalityForcingPipeline.from_pretrained(tmp_path / "model").text_encoder
    theirs = Qwen3ForCausalLM.from_pretrained(text_encoder).model.state_dict()
    assert len(list((tmp_path / "model" / "text_encoder").glob("*.safetensors"))) > 2
    assert all(torch.equal(value, theirs[name]) for name, value in copied.state_dict().items())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_is_bounded_by_a_shard_and_not_by_the_checkpoint(checkpoint, text_encoder, tmp_path):
    sizes = json.loads((checkpoint / "config.json").read_text())["dit"]
    sizes |= {"hidden_size": 1024, "num_heads": 8, "axes_dim": [32] * 4, "depth_single": 6}
    set_config(checkpoint, dit=sizes)
    write_hollow_transformer(
        checkpoint / "model.safetensors",
        num_layers=2,
        num_single_layers=6,
        num_depth_decoder_layers=2,
        num_attention_heads=8,
        joint_attention_dim=48,
    )
    size = (checkpoint / "model.safetensors").stat().st_size

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"{field}:\s+(\d+)", status)[1])

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    convert(checkpoint, tmp_path / "model", text_encoder=text_encoder, max_shard_size="20MB")
    assert size > 400e6
    assert resident("VmHWM") - before < 0.25 * size


@pytest.mark.parametrize(
    ("card", "option", "variant", "licence"),
    [
        ("mit", None, "flux_rgbd_9b_v2", "mit"),
        ("mit", "mit", "tiny_reference", "mit"),
        (None, "apache-2.0", "flux_rgbd_9b_v2", "apache-2.0"),
        (None, None, "flux_rgbd_9b_v2", "cc-by-nc-4.0"),
        (None, None, "tiny_reference", "unknown"),
    ],
)
def test_the_licence_goes_with_the_weights(
    card, option, variant, licence, checkpoint, text_encoder, tmp_path
):
    set_config(checkpoint, variant=variant)
    if card:
        (checkpoint / "README.md").write_text(f"---\nlicense: {card}\n---\n# A model\n")
    convert(checkpoint, tmp_path / "model", text_encoder=text_encoder, licence=option)
    assert model_info(ModelConfig(id=str(tmp_path / "model"))).licence == licence
    if option is None:
        assert model_info(ModelConfig(id=str(checkpoint))).licence == licence


def test_a_destination_that_exists_is_left_alone(reference, text_encoder, tmp_path):
    with pytest.raises(MfsynthError, match="exists; name a folder that does not"):
        convert(reference, tmp_path, text_encoder=text_encoder)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_conversion_leaves_nothing(reference, text_encoder, tmp_path):
    seen = []

    def interrupt(line):
        seen.append(sorted(tmp_path.iterdir()))
        if line.startswith("vae"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(reference, tmp_path / "model", text_encoder=text_encoder, report=interrupt)
    assert [path.name.startswith(".model.") for path in seen[0]] == [True]
    assert not list(tmp_path.iterdir())
