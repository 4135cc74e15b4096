"""The released layout: to a diffusers folder and straight to a pipeline, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.codecs import LatentCodec, patchify
from mfsynth.models.locations import find_model, is_released
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.released.checkpoint import open_checkpoint
from mfsynth.models.released.conversion import convert, load_released
from mfsynth.models.released.names import CROSS_STREAM_KEYS, transformer_layout
from mfsynth.models.text import encode_tokens, tokenize
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.config import TransformerConfig
from mfsynth.training.embedded import build_text_encoder, build_tokenizer

GRID = (3, 4)
PROMPTS = ["a red cube on a table", "a blue ball"]
CHECKPOINT = ("config.json", "model.safetensors", "ae_config.json")
CHECKPOINT += ("ae_encoder.safetensors", "ae_decoder.safetensors")


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def refusal(source: Path, **options) -> str:
    """The one line with which a conversion is refused; nothing may be left of it."""
    destination = source.parent / "new" / "model"
    with pytest.raises(MfsynthError) as caught:
        convert(source, destination, **options)
    assert not destination.parent.exists() or not list(destination.parent.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The converted folder


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
    closed = load_released(checkpoint, text_encoder=text_encoder).transformer
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


# The release itself, by its headers


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


# Straight to a pipeline


def test_from_pretrained_opens_the_released_layout_too(reference, text_encoder):
    pipeline = ModalityForcingPipeline.from_pretrained(reference, text_encoder=text_encoder)
    assert_forward_matches(pipeline.transformer, reference)


def test_a_released_checkpoint_opens_as_it_is(reference, text_encoder, converted):
    direct = load_released(reference, text_encoder=text_encoder)
    assert_forward_matches(direct.transformer, reference)
    theirs = ModalityForcingPipeline.from_pretrained(converted)
    assert dict(direct.config) | {"_name_or_path": None} == dict(theirs.config) | {
        "_name_or_path": None
    }
    arguments = {"seeds": [1, 2], "num_inference_steps": 2, "height": 32, "width": 32}
    ours, theirs = direct(PROMPTS, **arguments), theirs(PROMPTS, **arguments)
    assert np.array_equal(ours.rgb, theirs.rgb)
    assert np.array_equal(ours.depth, theirs.depth)


def test_opened_in_bfloat16_the_depth_head_is_float32(reference, text_encoder):
    pipeline = load_released(reference, text_encoder=text_encoder, dtype=torch.bfloat16)
    assert pipeline.transformer.depth_proj_out.weight.dtype is torch.float32
    assert pipeline.vae.bn.num_batches_tracked.dtype is torch.int64
    others = (pipeline.transformer.proj_out, pipeline.vae.quant_conv, pipeline.text_encoder)
    assert {next(module.parameters()).dtype for module in others} == {torch.bfloat16}


def test_a_run_can_name_a_released_checkpoint(checkpoint, text_encoder, hub):
    in_hub_cache(hub, "Qwen/Qwen3-8B", text_encoder)
    for name in (checkpoint, checkpoint / "model.safetensors"):
        info = model_info(ModelConfig(id=str(name)))
        assert (info.height, info.width, info.licence) == (512, 512, "unknown")
    (checkpoint / "notes.txt").write_text("not of the model")
    assert model_info(ModelConfig(id=str(checkpoint))).revision == info.revision
    pipeline = load_pipeline(ModelConfig(id=str(checkpoint)), "cpu")
    pairs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=1, height=32, width=32)
    assert np.isfinite(pairs.depth).all()


def test_hub_ids_name_source_and_text_encoder(checkpoint, text_encoder, hub, tmp_path):
    commit = in_hub_cache(hub, "someone/modality-forcing", checkpoint)
    in_hub_cache(hub, "Qwen/Qwen3-8B", text_encoder)
    assert is_released("someone/modality-forcing")
    assert not is_released("someone/else")
    convert("someone/modality-forcing", tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"`someone/modality-forcing`, commit `{commit}`" in card
    assert "`Qwen/Qwen3-8B`" in card
    assert model_info(ModelConfig(id="someone/modality-forcing")).revision == commit
    pipeline = load_pipeline(ModelConfig(id="someone/modality-forcing"), "cpu")
    assert pipeline.transformer.config.num_layers == 2


# Licences


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


def test_a_licence_that_contradicts_the_card_is_refused(checkpoint, text_encoder):
    (checkpoint / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    message = refusal(checkpoint, text_encoder=text_encoder, licence="mit")
    assert "says cc-by-nc-4.0" in message


def test_a_card_that_cannot_be_read_is_refused(checkpoint, text_encoder):
    (checkpoint / "README.md").write_text("---\nlicense: [mit\n---\n")
    assert "front matter is not a YAML mapping" in refusal(checkpoint, text_encoder=text_encoder)


# What is refused, before anything is written


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


def test_a_shard_size_that_is_no_size_is_refused(checkpoint, text_encoder):
    message = refusal(checkpoint, text_encoder=text_encoder, max_shard_size="big")
    assert message.startswith("shard size 'big'")
