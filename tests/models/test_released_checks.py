"""What is refused of a checkpoint in the released layout, before anything is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from released_checkpoints import (
    CHECKPOINT,
    change,
    refusal,
    set_config,
    write_hollow,
    write_hollow_transformer,
)
from safetensors.torch import save_file

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import find_model
from mfsynth.models.released.checkpoint import open_checkpoint


def test_every_key_that_does_not_fit_is_in_one_error(checkpoint):
    def damage(tensors):
        del tensors["dit.double_blocks.1.img_attn.qkv.weight"]
        tensors["dit.single_blocks.3.linear2.weight"] = torch.zeros(64, 256)
        tensors["dit.img_in.weight"] = torch.zeros(64, 129)
        tensors["dit.txt_in.weight"] = torch.zeros(64, 48, dtype=torch.float64)

    def damage_decoder(tensors):
        del tensors["up.3.block.0.conv1.bias"]
        tensors["mid.attn_1.q.weight"] = torch.zeros(64, 64)
        tensors["post_quant_conv.bias"] = torch.zeros(32, dtype=torch.int32)

    change(checkpoint / "model.safetensors", damage)
    change(checkpoint / "ae_decoder.safetensors", damage_decoder)
    message = refusal(checkpoint)
    transformer, decoder = message.split("; ")
    assert "1 missing (dit.double_blocks.1.img_attn.qkv.weight)" in transformer
    assert "1 extra (dit.single_blocks.3.linear2.weight)" in transformer
    assert "1 of another shape (dit.img_in.weight is 64×129, not 64×128)" in transformer
    assert "(dit.txt_in.weight is F64)" in transformer
    assert "ae_decoder.safetensors: 1 missing (up.3.block.0.conv1.bias)" in decoder
    assert "(mid.attn_1.q.weight is 64×64, not 64×64×1×1)" in decoder
    assert "(post_quant_conv.bias is I32)" in decoder


def test_a_long_list_of_keys_is_counted_and_cut(checkpoint):
    save_file({"weight": torch.zeros(1)}, checkpoint / "model.safetensors")
    message = refusal(checkpoint)
    assert re.search(r"model\.safetensors: \d\d missing \(.* and \d\d more\)", message)
    assert "1 extra (weight)" in message
    assert len(message) < 500


def test_cross_stream_keys_in_a_checkpoint_that_is_said_to_have_none_are_extra(checkpoint):
    sizes = json.loads((checkpoint / "config.json").read_text())["dit"]
    set_config(checkpoint, dit=sizes | {"cross_stream_timestep_mixing": False})
    assert "6 extra (dit.cross_alpha_depth" in refusal(checkpoint)


def test_some_but_not_all_cross_stream_keys_are_missing_keys(checkpoint):
    change(checkpoint / "model.safetensors", lambda tensors: tensors.pop("dit.cross_alpha_img"))
    assert "1 missing (dit.cross_alpha_img)" in refusal(checkpoint)


@pytest.mark.parametrize("name", [name for name in CHECKPOINT if name.endswith("safetensors")])
def test_a_file_that_is_cut_off_or_absent_is_named(name, checkpoint):
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[:-8])
    assert f"{name}: not a whole safetensors file" in refusal(checkpoint)
    path.unlink()
    assert f"{name}: no such file" in refusal(checkpoint)


def test_halves_of_two_autoencoders_are_refused(checkpoint):
    change(checkpoint / "ae_decoder.safetensors", lambda tensors: tensors["bn.running_var"].add_(1))
    assert "differ in bn.running_var" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dit": {"hidden_size": 64}}, "dit: in_channels, depth_channels, .* missing"),
        ({"depth_normalize_mode": ["none"]}, r"depth_normalize_mode is \['none'\]"),
        ({"rgb_shift_mu": "high"}, "rgb_shift_mu is 'high'; give a number"),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(values, message, checkpoint):
    set_config(checkpoint, **values)
    assert re.search(rf"config\.json: {message}", refusal(checkpoint))


@pytest.mark.parametrize(
    ("size", "value", "message"),
    [
        ("num_heads", 3, "hidden_size 64 is not num_heads 3 times the 32 channels"),
        ("use_guidance_embed", True, "the released layout has no guidance embedding"),
        ("in_channels", "many", "its sizes do not make a model"),
    ],
)
def test_sizes_that_make_no_transformer_are_refused(size, value, message, checkpoint):
    sizes = json.loads((checkpoint / "config.json").read_text())["dit"]
    set_config(checkpoint, dit=sizes | {size: value})
    assert message in refusal(checkpoint)


def test_another_layout_is_refused_with_what_was_found(
    converted, text_encoder, checkpoint, tmp_path
):
    assert "is a diffusers folder" in refusal(shutil.copytree(converted, tmp_path / "a"))
    message = refusal(shutil.copytree(text_encoder, tmp_path / "b"))
    assert "its config.json is of Qwen3ForCausalLM and names no released 'variant'" in message
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "weights.bin").touch()
    message = refusal(tmp_path / "c")
    assert "it holds weights.bin, and neither model_index.json nor a released checkpoint" in message
    assert "ae_encoder.safetensors" in message
    assert "name a folder" in refusal(tmp_path / "c" / "weights.bin")
    (checkpoint / "config.json").write_text('{"variant": "flux_rgbd_9b_v3"}')
    assert "did you mean flux_rgbd_9b_v" in refusal(checkpoint)
    (checkpoint / "config.json").write_text("{")
    assert "not readable as JSON" in refusal(checkpoint)


def test_a_text_encoder_that_does_not_fit_is_refused(checkpoint, text_encoder, tmp_path):
    assert "--text-encoder" in refusal(checkpoint, text_encoder="no/such-model")
    assert "not a transformers model" in refusal(checkpoint, text_encoder=tmp_path)

    broken = shutil.copytree(text_encoder, tmp_path / "text")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 20}))
    assert "not a transformers model" in refusal(checkpoint, text_encoder=broken)
    shallow = {"num_hidden_layers": 20, "layer_types": config["layer_types"][:20]}
    (broken / "config.json").write_text(json.dumps(config | shallow))
    message = refusal(checkpoint, text_encoder=broken)
    assert "20 layers of 16 channels do not give hidden states 9, 18, 27" in message
    (broken / "config.json").write_text(json.dumps(config))

    change(broken / "model.safetensors", lambda tensors: tensors.pop("model.norm.weight"))
    message = refusal(checkpoint, text_encoder=broken)
    assert "not the weights of a Qwen3Model: 1 missing (norm.weight)" in message
    shutil.copy(text_encoder / "model.safetensors", broken)

    (broken / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(checkpoint, text_encoder=broken)


def test_a_licence_that_contradicts_the_card_is_refused(checkpoint, text_encoder):
    (checkpoint / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    message = refusal(checkpoint, text_encoder=text_encoder, licence="mit")
    assert "says cc-by-nc-4.0" in message


def test_a_card_that_cannot_be_read_is_refused(checkpoint, text_encoder):
    cases = {
        "license: [mit": "README.md:2:14: not valid YAML",
        "- mit": "front matter is not a YAML mapping",
        "license: mit\nlicense: cc-by-4.0": "README.md:3:1: not valid YAML: the key 'license' is",
    }
    for text, message in cases.items():
        (checkpoint / "README.md").write_text(f"---\n{text}\n---\n")
        assert message in refusal(checkpoint, text_encoder=text_encoder)


def test_a_shard_size_that_is_no_size_is_refused(checkpoint, text_encoder):
    message = refusal(checkpoint, text_encoder=text_encoder, max_shard_size="big")
    assert message.startswith("shard size 'big'")


def write_flux2_autoencoder(folder: Path) -> None:
    from diffusers import AutoencoderKLFlux2

    from mfsynth.models.released.names import autoencoder_layout

    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in AutoencoderKLFlux2().state_dict().items()}
    shapes.pop("bn.num_batches_tracked")
    halves = autoencoder_layout(shapes, 4)
    for part, layout in halves.items():
        write_hollow(folder / f"ae_{part}.safetensors", layout)


@pytest.mark.parametrize(("variant", "mixes"), [("v1", False), ("v2", True)])
def test_a_released_variant_has_the_released_sizes(variant, mixes, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"variant": f"flux_rgbd_9b_{variant}"}))
    write_hollow_transformer(tmp_path / "model.safetensors", cross_stream_mixing=mixes)
    write_flux2_autoencoder(tmp_path)
    with pytest.raises(MfsynthError) as caught:
        open_checkpoint(find_model(str(tmp_path)))
    # All of 24 GB is accounted for, but for a counter that the hollow halves were made without.
    assert re.findall(r"\w+\.safetensors: [^;]*", str(caught.value)) == [
        f"{name}.safetensors: 1 missing (bn.num_batches_tracked)"
        for name in ("ae_encoder", "ae_decoder")
    ]
