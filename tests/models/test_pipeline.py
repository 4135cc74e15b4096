from __future__ import annotations

import inspect
from contextlib import contextmanager

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

from mfsynth.config import ModelConfig, SamplerConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry.resizing import resize_depth, resize_image
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.arguments import JOINT_ONLY
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.token_codecs import LatentCodec

PROMPTS = ["a red cube on a table", "a blue ball"]


@pytest.fixture(scope="module")
def pipeline(tiny_model_dir):
    return load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)


def test_joint_makes_pairs_of_the_native_size(pipeline):
    pairs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=3)
    assert pairs.rgb.shape == (2, 32, 32, 3)
    assert pairs.rgb.dtype == np.uint8
    assert pairs.depth.shape == (2, 32, 32)
    assert pairs.depth.dtype == np.float32
    assert np.isfinite(pairs.depth).all()
    assert (pairs.depth >= 0).all()


def test_a_sample_depends_on_its_own_prompt_and_seed_not_on_its_batch(pipeline):
    both = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=3)
    alone = pipeline(PROMPTS[1:], seeds=[2], num_inference_steps=3)
    np.testing.assert_allclose(both.depth[1], alone.depth[0], rtol=1e-3)
    assert np.abs(both.rgb[1].astype(int) - alone.rgb[0].astype(int)).max() <= 1
    other_seed = pipeline(PROMPTS[1:], seeds=[3], num_inference_steps=3)
    assert not np.array_equal(other_seed.rgb, alone.rgb)


def test_i2d_keeps_the_image_and_d2i_keeps_the_depth(pipeline):
    given_image = images(2)
    pairs = pipeline(PROMPTS, seeds=[1, 2], mode="i2d", image=given_image, num_inference_steps=2)
    assert np.array_equal(pairs.rgb, given_image)
    depth = np.linspace(1, 2, 2 * 32 * 32, dtype=np.float32).reshape(2, 32, 32)
    pairs = pipeline(PROMPTS, seeds=[1, 2], mode="d2i", depth=depth, num_inference_steps=2)
    assert np.array_equal(pairs.depth, depth)
    curved = depth[::-1].copy() ** 2
    other = pipeline(PROMPTS, seeds=[1, 2], mode="d2i", depth=curved, num_inference_steps=2)
    assert not np.array_equal(other.rgb, pairs.rgb)


def test_the_prompt_matters_through_guidance(pipeline):
    one = pipeline(["a red cube"], seeds=[1], num_inference_steps=2, guidance_scale=4)
    other = pipeline(["a blue ball"], seeds=[1], num_inference_steps=2, guidance_scale=4)
    unguided = pipeline(["a red cube"], seeds=[1], num_inference_steps=2, guidance_scale=1)
    assert not np.array_equal(one.depth, other.depth)
    assert not np.array_equal(one.depth, unguided.depth)


def sample(pipeline, **changes):
    settings = {"seeds": [1, 2], "num_inference_steps": 4, "output_type": "latent"}
    return pipeline(PROMPTS, **(settings | changes))


@contextmanager
def watched(transformer):
    """Collects (rows, depth's level or None) of every forward."""
    calls = []

    def note(module, args, kwargs):
        level = kwargs["depth_timestep"]
        calls.append((len(kwargs["rgb"]), None if level is None else round(level[0].item(), 4)))

    handle = transformer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def flat(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [1]}, "2 prompts but 1 seeds"),
        ({"seeds": 1}, "`seeds` is 1; give a list"),
        ({"seeds": [1, 2.5]}, "seed 2.5 is not an integer"),
        ({"prompt": []}, "0 prompts but 2 seeds"),
        ({"prompt": [], "seeds": []}, "there are no prompts"),
        ({"prompt": ["a", 2]}, "`prompt` is .* give a text or a list of texts"),
        ({"prompt": None}, "either `prompt` or `prompt_embeds`"),
        ({"prompt_embeds": torch.zeros(2, 12, 16)}, "either `prompt` or `prompt_embeds`"),
        ({"prompt": None, "prompt_embeds": torch.zeros(2, 5)}, "`prompt_embeds` .*encode_prompts"),
        # What guidance adds is as long as the model reads.
        ({"prompt": None, "prompt_embeds": torch.zeros(2, 5, 16)}, r"not a tensor \(B, 12, 16\)"),
        ({"height": 30}, "multiples of 8"),
        ({"height": 0}, "`height` is 0; give an integer of at least 1"),
        ({"mode": "i2"}, "`mode` is 'i2'; did you mean i2d?"),
        ({"output_type": "npy"}, "`output_type` is 'npy'; did you mean np?"),
        ({"output_type": None}, "`output_type` is None; known: np, pil, pt, latent"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0; give an integer of at least 1"),
        ({"num_inference_steps": 2.0}, "give an integer"),
        ({"num_inference_steps": True}, "give an integer"),
        ({"num_inference_steps": None}, "`num_inference_steps` is None; give an integer"),
        ({"guidance_scale": None}, "`guidance_scale` is None; give a number"),
        ({"guidance_scale": -1}, "`guidance_scale` is -1; give a number of at least 0"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
        ({"depth_guidance_scale": "4"}, "`depth_guidance_scale` is '4'; give a number"),
        ({"guidance_interval": (0.9, 0.3)}, "put the lower level first"),
        ({"guidance_interval": (2.0, 3.0)}, "`guidance_interval` is 2.0; give .* from 0 to 1"),
        ({"guidance_interval": 0.5}, "`guidance_interval` is 0.5; give the lowest and the highest"),
        ({"log2_alpha": 5000.0}, "`log2_alpha` is 5000.0; give a number from -100 to 100"),
        ({"depth_step_share": 1.5}, "`depth_step_share` is 1.5; give a number from 0 to 1"),
        ({"depth_start": -0.1}, "`depth_start` is -0.1"),
        ({"refine_steps": -1}, "`refine_steps` is -1"),
        ({"refine_steps": 1, "refine_start": -1}, "`refine_start` is -1; give a number above 0"),
        ({"callback_on_step_end": 3}, "give a function"),
        ({"image": images(2)}, "`image` is for mode i2d, not joint; set mode, or leave it out"),
        ({"mode": "i2d"}, "needs `image`"),
        ({"mode": "i2d", "image": images(1)}, "holds 1 maps"),
        ({"mode": "i2d", "image": images(2), "depth": flat(2, 32, 32)}, "`depth` is for mode d2i"),
        (
            {"mode": "i2d", "image": images(2), "refine_steps": 1},
            "`refine_steps` is for mode joint",
        ),
        ({"mode": "i2d", "image": images(2) / 1.0}, "bring floats to"),
        (
            {"mode": "i2d", "image": images(2)[:, :3]},
            "`image` has 32x3 pixels .* cut it into parts",
        ),
        ({"mode": "d2i"}, "needs `depth`"),
        ({"mode": "d2i", "depth": images(2)}, "`depth` is an array of uint8"),
        ({"mode": "d2i", "depth": flat(2, 32, 32) * np.nan}, "valid in 0%"),
        ({"mode": "d2i", "depth": np.eye(32, dtype=np.float32)[None].repeat(2, 0)}, "valid in 3%"),
        ({"mode": "d2i", "depth": flat(2, 32, 32), "depth_guidance_scale": 1}, "leave it out"),
    ],
)
def test_arguments_that_do_not_fit_are_one_clear_line_before_anything_is_computed(
    pipeline, monkeypatch, arguments, message
):
    monkeypatch.setattr(pipeline, "encode_prompts", None)
    with (
        watched(pipeline.transformer) as calls,
        pytest.raises(MfsynthError, match=message) as caught,
    ):
        pipeline(**({"prompt": PROMPTS, "seeds": [1, 2]} | arguments))
    assert "\n" not in str(caught.value)
    assert not calls


def test_what_only_joint_mode_uses_may_be_given_at_its_default_elsewhere(pipeline):
    parameters = inspect.signature(ModalityForcingPipeline.__call__).parameters
    assert {name: parameters[name].default for name in JOINT_ONLY} == JOINT_ONLY
    sample(pipeline, mode="i2d", image=images(2), **JOINT_ONLY)


def test_an_image_of_another_size_is_seen_whole_and_its_depth_is_on_its_own_grid(pipeline):
    wide = np.random.default_rng(0).integers(0, 256, (2, 20, 40, 3), dtype=np.uint8)
    settings = {"seeds": [1, 2], "mode": "i2d", "num_inference_steps": 2}
    pairs = pipeline(PROMPTS, image=wide, **settings)
    assert np.array_equal(pairs.rgb, wide)
    assert pairs.depth.shape == (2, 20, 40)
    inside = np.stack([resize_image(one, 16, 32) for one in wide])
    framed = np.pad(inside, [(0, 0), (8, 8), (0, 0), (0, 0)], mode="edge")
    seen = pipeline(PROMPTS, image=framed, **settings).depth[:, 8:24]
    assert np.array_equal(pairs.depth, np.stack([resize_depth(one, 20, 40) for one in seen]))
    assert pipeline(PROMPTS, image=wide, height=24, width=48, **settings).depth.shape == (2, 20, 40)


def test_an_image_is_the_same_whatever_form_it_comes_in(pipeline):
    given = images(2)
    settings = {"seeds": [1, 2], "mode": "i2d", "num_inference_steps": 1}
    plain = pipeline(PROMPTS, image=given, **settings)
    tensor = torch.from_numpy(given).permute(0, 3, 1, 2) / 255
    for form in ([PIL.Image.fromarray(one) for one in given], given / 255, tensor):
        again = pipeline(PROMPTS, image=form, **settings)
        assert np.array_equal(again.rgb, plain.rgb)
        assert np.array_equal(again.depth, plain.depth)


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_an_image_for_depth_of_another_size_is_on_the_grid_of_that_depth(pipeline, output_type):
    depth = np.linspace(1, 2, 48 * 20, dtype=np.float32).reshape(1, 48, 20)
    depth[:, :4] = np.nan
    pairs = pipeline(
        PROMPTS[:1],
        **{"seeds": [1], "mode": "d2i", "depth": depth, "num_inference_steps": 2},
        output_type=output_type,
    )
    assert np.array_equal(np.asarray(pairs.depth[0]), np.nan_to_num(depth[0]))
    assert np.asarray(pairs.rgb[0]).shape == ((3, 48, 20) if output_type == "pt" else (48, 20, 3))


def test_prompts_encoded_beforehand_give_the_same_pairs(pipeline):
    embeds = pipeline.encode_prompts(PROMPTS)
    ours = pipeline(prompt_embeds=embeds, seeds=[1, 2], num_inference_steps=2)
    theirs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=2)
    assert np.array_equal(ours.rgb, theirs.rgb)
    assert np.array_equal(ours.depth, theirs.depth)


def test_the_empty_prompt_is_encoded_once(pipeline, monkeypatch):
    sample(pipeline)
    encoded = []
    original = pipeline.encode_prompts
    monkeypatch.setattr(
        pipeline, "encode_prompts", lambda p, *size: encoded.append(p) or original(p)
    )
    sample(pipeline)
    assert encoded == [PROMPTS]


def test_guidance_has_a_scale_for_each_modality(pipeline):
    both, rgb_only = sample(pipeline), sample(pipeline, depth_guidance_scale=1.0)
    same = sample(pipeline, depth_guidance_scale=4.0)
    assert torch.equal(both.depth, same.depth)
    assert not torch.equal(both.depth, rgb_only.depth)


def test_guidance_acts_inside_its_interval_and_saves_half_of_the_forward_outside(pipeline):
    with watched(pipeline.transformer) as calls:
        sample(pipeline, guidance_interval=(0.5, 0.95))
    # RGB's levels are 1, .90, .75 and .50.
    assert [rows for rows, _ in calls] == [2, 4, 4, 4]
    nowhere = sample(pipeline, guidance_interval=(0.0, 0.01))
    torch.testing.assert_close(nowhere.rgb, sample(pipeline, guidance_scale=1.0).rgb)


def test_depth_tokens_are_left_out_while_they_are_noise(pipeline):
    with watched(pipeline.transformer) as calls:
        latents = sample(pipeline, depth_start=0.97)
    levels = [level for _, level in calls]
    assert levels[0] is None
    assert levels[levels.count(None)] == 1.0
    assert levels[-1] is not None
    assert torch.isfinite(latents.depth).all()
    with watched(pipeline.transformer) as calls:
        sample(pipeline)
    assert None not in [level for _, level in calls]


def test_an_image_without_depth_tokens_then_depth_in_one_forward(pipeline):
    sampler = SamplerConfig.model_validate({"preset": "image_then_depth", "steps": 6})
    with watched(pipeline.transformer) as calls:
        pairs = pipeline(PROMPTS, seeds=[1, 2], **sampler.pipeline_arguments())
    guided = [rows == 4 for rows, _ in calls]
    assert guided == [False] * 2 + [True] * 4 + [False]
    assert [level for _, level in calls] == [None] * 6 + [1.0]
    again = pipeline(
        PROMPTS,
        seeds=[1, 2],
        **(sampler.pipeline_arguments() | {"depth_guidance_scale": 9.0, "log2_alpha": -2.0}),
    )
    assert np.array_equal(again.rgb, pairs.rgb)
    assert np.array_equal(again.depth, pairs.depth)


@pytest.mark.parametrize("settings", [{}, {"refine_steps": 2, "refine_start": 0.5}])
def test_depth_that_would_stay_noise_is_refused(pipeline, settings):
    with pytest.raises(MfsynthError, match="`depth_start` 0 leaves depth to the second pass"):
        sample(pipeline, depth_start=0.0, **settings)


def test_a_second_pass_refines_depth_and_leaves_the_image(pipeline):
    plain = sample(pipeline)
    with watched(pipeline.transformer) as calls:
        refined = sample(pipeline, refine_steps=3, refine_start=0.6)
    assert torch.equal(refined.rgb, plain.rgb)
    assert not torch.equal(refined.depth, plain.depth)
    assert [rows for rows, _ in calls] == [4] * 4 + [2] * 3
    assert calls[4][1] == pytest.approx(0.6, abs=1e-4)


def test_a_callback_sees_every_step_and_may_change_the_tokens(pipeline):
    seen = []

    def freeze(pipe, step, levels, tokens):
        seen.append((step, levels))
        return {"rgb": torch.zeros_like(tokens["rgb"])}

    latents = sample(pipeline, callback_on_step_end=freeze)
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert seen[-1][1] == (0.0, 0.0)
    assert (latents.rgb == 0).all()
    assert (latents.depth != 0).any()


def test_output_types_hold_the_same_pairs(pipeline):
    arrays = sample(pipeline, output_type="np")
    tensors = sample(pipeline, output_type="pt")
    images = sample(pipeline, output_type="pil")
    assert tensors.rgb.shape == (2, 3, 32, 32)
    rounded = (tensors.rgb * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(rounded, arrays.rgb)
    assert np.array_equal(tensors.depth.numpy(), arrays.depth)
    assert np.array_equal(np.asarray(images.rgb[1]), arrays.rgb[1])
    assert images.depth[1].mode == "F"
    assert np.array_equal(np.asarray(images.depth[1]), arrays.depth[1])


@pytest.mark.parametrize("mode", ["joint", "d2i"])
def test_an_image_of_no_numbers_is_refused_by_its_seed_before_it_is_a_black_one(
    pipeline, monkeypatch, mode
):
    decode = LatentCodec.decode

    def overflowing(self, tokens, grid):
        decoded = decode(self, tokens, grid)
        decoded[1, 0, 3, 5] = torch.nan
        return decoded

    monkeypatch.setattr(LatentCodec, "decode", overflowing)
    given = {"depth": np.ones((2, 32, 32), np.float32)} if mode == "d2i" else {}
    for output_type in ("np", "pil"):
        with pytest.raises(
            MfsynthError, match=r"1 of 2 images .* not finite, the first of seed 8;"
        ):
            pipeline(
                PROMPTS,
                seeds=[7, 8],
                mode=mode,
                num_inference_steps=2,
                output_type=output_type,
                **given,
            )


def test_d2i_sees_holes_filled_with_their_nearest_depth_and_returns_them_as_holes(pipeline):
    ramp = np.linspace(1, 2, 32, dtype=np.float32)
    depth = np.broadcast_to(ramp[:, None], (2, 32, 32)).copy()
    holes = depth.copy()
    holes[:, 8:10, 8:20] = 0
    whole = pipeline(PROMPTS, seeds=[1, 2], mode="d2i", depth=depth, num_inference_steps=2)
    holed = pipeline(PROMPTS, seeds=[1, 2], mode="d2i", depth=holes, num_inference_steps=2)
    assert np.array_equal(holed.depth, holes)
    assert np.abs(holed.rgb.astype(int) - whole.rgb).mean() < 2


def test_a_lora_of_a_flux2_base_loads_and_can_be_taken_off(pipeline, tmp_path):
    pytest.importorskip("peft")
    plain = sample(pipeline).rgb
    generator = torch.Generator().manual_seed(0)
    name = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
    adapter = {
        name.format("A"): torch.randn(4, 32, generator=generator),
        name.format("B"): torch.randn(32, 4, generator=generator),
    }
    save_file(adapter, tmp_path / "pytorch_lora_weights.safetensors")
    pipeline.load_lora_weights(tmp_path)
    try:
        assert not torch.equal(sample(pipeline).rgb, plain)
    finally:
        pipeline.unload_lora_weights()
    assert torch.equal(sample(pipeline).rgb, plain)


def test_a_saved_pipeline_loads_as_it_was(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = load_pipeline(ModelConfig(id=str(tmp_path)), "cpu")
    ours = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=2)
    theirs = again(PROMPTS, seeds=[1, 2], num_inference_steps=2)
    assert np.array_equal(ours.rgb, theirs.rgb)
    assert np.array_equal(ours.depth, theirs.depth)


def test_bfloat16_keeps_the_depth_head_in_float32(tiny_model_dir):
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir), dtype="bfloat16"), "cpu")
    assert pipeline.transformer.depth_proj_out.weight.dtype is torch.float32
    assert pipeline.transformer.x_embedder.weight.dtype is torch.bfloat16
    pairs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=2)
    assert np.isfinite(pairs.depth).all()


def test_model_info_reads_no_weights_but_tells_weights_apart(tiny_model_dir, tmp_path):
    info = model_info(ModelConfig(id=str(tiny_model_dir)))
    assert (info.height, info.width, info.licence) == (32, 32, "apache-2.0")
    assert not info.needs_depth_tokens
    import shutil

    copy = shutil.copytree(tiny_model_dir, tmp_path / "copy")
    assert model_info(ModelConfig(id=str(copy))).revision == info.revision
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_info(ModelConfig(id=str(copy))).revision != info.revision


@pytest.mark.parametrize("name", ["no/such-model", "no-such-folder/at all"])
def test_an_unknown_model_is_one_clear_error(name):
    with pytest.raises(MfsynthError, match=r"model\.id") as caught:
        model_info(ModelConfig(id=name))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model_is_one_clear_error(tmp_path):
    with pytest.raises(MfsynthError, match="is no model folder"):
        load_pipeline(ModelConfig(id=str(tmp_path)), "cpu")


def test_the_pipeline_takes_every_setting_of_the_sampler() -> None:
    sampler = SamplerConfig.model_validate({"preset": "fast", "steps": 7, "guidance": 2.0})
    arguments = sampler.pipeline_arguments()
    not_of_a_roll_out = ["preset", "mode", "tile_overlap"]
    assert len(arguments) == len(SamplerConfig.model_fields) - len(not_of_a_roll_out)
    assert arguments.keys() <= inspect.signature(ModalityForcingPipeline.__call__).parameters.keys()
    assert (arguments["num_inference_steps"], arguments["guidance_scale"]) == (7, 2.0)
