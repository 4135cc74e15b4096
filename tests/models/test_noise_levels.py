"""How noise levels reach the streams: in full precision, and depth's where depth is left out."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.transformers import transformer_flux2
from safetensors.torch import load_file

from mfsynth.config import ModelConfig
from mfsynth.models import load_pipeline, model_info, transformer_blocks
from mfsynth.models.locations import find_model
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.released.checkpoint import open_checkpoint
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

GRID = (3, 4)
EMBEDDERS = {
    "time_guidance_embed.timestep_embedder": "rgb_timestep",
    "time_guidance_embed.guidance_embedder": "guidance",
    "depth_time_embed.timestep_embedder": "depth_timestep",
    "depth_to_rgb_time_embed.timestep_embedder": "depth_timestep",
    "rgb_to_depth_time_embed.timestep_embedder": "rgb_timestep",
}


@pytest.fixture(scope="module")
def transformer(reference) -> ModalityForcingTransformer2DModel:
    """The tiny released model; the gates of its mixing are open."""
    released = open_checkpoint(find_model(str(reference)))
    return released.transformer.load(torch.float32).requires_grad_(False)


@pytest.fixture(scope="module")
def inputs(reference) -> dict:
    vectors = load_file(reference / "vectors.safetensors")
    names = {"rgb": "rgb", "depth": "depth", "text": "ctx", "rgb_timestep": "t_rgb"}
    given = {name: vectors[f"fwd.{theirs}"] for name, theirs in names.items()}
    return given | {"depth_timestep": torch.ones_like(given["rgb_timestep"]), "grid": GRID}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_levels_and_guidance_are_rounded_after_their_sinusoids_and_no_sooner(transformer, dtype):
    config = {name: v for name, v in transformer.config.items() if not name.startswith("_")}
    model = ModalityForcingTransformer2DModel(**(config | {"guidance_embeds": True}))
    model.cast_body(dtype)
    seen = {}
    for name in EMBEDDERS:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: seen.update({name: given[0]})
        )
    values = {
        "rgb_timestep": torch.tensor([0.9931, 0.0123]),
        "depth_timestep": torch.tensor([0.9987, 0.6502]),
        "guidance": torch.tensor([4.03, 1.0]),
    }
    with torch.no_grad():
        model(
            rgb=torch.zeros(2, 12, config["in_channels"], dtype=dtype),
            depth=torch.zeros(2, 12, config["depth_channels"], dtype=dtype),
            text=torch.zeros(2, 3, config["joint_attention_dim"], dtype=dtype),
            grid=GRID,
            **values,
        )
    for name, value in EMBEDDERS.items():
        exact = get_timestep_embedding(
            1000 * values[value], seen[name].shape[1], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        assert torch.equal(seen[name], exact.to(dtype)), name


def test_levels_that_are_one_number_in_bfloat16_are_told_apart(transformer, inputs):
    model = ModalityForcingTransformer2DModel.from_config(transformer.config)
    model.load_state_dict(transformer.state_dict())
    model.cast_body(torch.bfloat16)
    one, other = torch.full((2,), 0.9925), torch.full((2,), 0.9935)
    assert torch.equal(one.bfloat16(), other.bfloat16())
    low = {name: inputs[name].to(torch.bfloat16) for name in ("rgb", "depth", "text")}
    with torch.no_grad():
        outputs = [model(**(inputs | low | {"depth_timestep": t})).depth for t in (one, other)]
    assert not torch.equal(*outputs)


def test_depth_that_is_left_out_is_noise_that_nobody_looks_at(transformer, inputs, monkeypatch):
    """The same image as with depth tokens at level 1 to which no other token attends.

    The release's code always has those tokens, and text and RGB attend to them: what differs from
    it when they are left out is that attention alone.
    """
    both, tokens = inputs["text"].shape[1], inputs["rgb"].shape[1]
    others = both + tokens

    def blind(query, key, value, **_):
        mask = torch.ones(query.shape[1], key.shape[1], dtype=torch.bool)
        if query.shape[1] > tokens:
            mask[:others, others:] = False
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask
        )
        return attended.transpose(1, 2)

    left_out = transformer(**(inputs | {"depth": None}))
    there = transformer(**inputs)
    for module in (transformer_blocks, transformer_flux2):
        monkeypatch.setattr(module, "dispatch_attention_fn", blind)
    unseen = transformer(**inputs)
    assert left_out.depth is None
    torch.testing.assert_close(left_out.rgb, unseen.rgb, rtol=1e-5, atol=1e-5)
    assert (there.rgb - unseen.rgb).norm() > 1e-2 * unseen.rgb.norm()


def test_without_a_level_of_depth_rgb_sees_none(transformer, inputs):
    image = transformer(**(inputs | {"depth": None, "depth_timestep": None})).rgb
    levels = [torch.full_like(inputs["rgb_timestep"], level) for level in (1.0, 0.3)]
    mixed = [transformer(**(inputs | {"depth": None, "depth_timestep": t})).rgb for t in levels]
    for one, other in ((image, mixed[0]), (image, mixed[1]), mixed):
        assert (one - other).norm() > 1e-3 * image.norm()


@pytest.mark.parametrize("mixes", [False, True])
def test_a_pipeline_says_whether_left_out_depth_has_a_level(tiny_model_dir, mixes):
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")
    assert pipeline.config.mixes_without_depth is False
    pipeline.register_to_config(mixes_without_depth=mixes)
    seen = []
    pipeline.transformer.register_forward_pre_hook(
        lambda _, __, given: seen.append((given["depth"], given["depth_timestep"])),
        with_kwargs=True,
    )
    pipeline(["a red cube"], seeds=[1], num_inference_steps=4, depth_start=0.97)
    levels = [level for depth, level in seen if depth is None]
    assert levels
    for level in levels:
        assert torch.equal(level, torch.ones(2)) if mixes else level is None
    assert all(level is not None for depth, level in seen if depth is not None)


def test_the_released_pipeline_mixes_without_depth(reference, text_encoder, converted):
    for name, arguments in ((reference, {"text_encoder": text_encoder}), (converted, {})):
        pipeline = ModalityForcingPipeline.from_pretrained(name, **arguments)
        assert pipeline.config.mixes_without_depth is True
        assert model_info(ModelConfig(id=str(name))).needs_depth_tokens
