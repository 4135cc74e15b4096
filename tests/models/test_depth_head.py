"""The depth head that predicts overlapping windows, beside the released one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_flux2 import build_base

from mfsynth.config import ModelConfig
from mfsynth.geometry import seam_ratio
from mfsynth.models import load_pipeline
from mfsynth.models.acceleration.step_cache import step_cache
from mfsynth.models.released.flux2 import from_flux2
from mfsynth.models.token_codecs import unpatchify
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

PROMPTS = ["a red cube on a table", "a blue ball"]
SIZES = {
    "in_channels": 8,
    "depth_channels": 64,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_depth_decoder_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "timestep_channels": 32,
    "axes_dims_rope": (4, 4, 4, 4),
}


def build(depth_head: str = "windows", **changes) -> ModalityForcingTransformer2DModel:
    torch.manual_seed(0)
    return ModalityForcingTransformer2DModel(**(SIZES | {"depth_head": depth_head} | changes))


def inputs(grid=(2, 3), batch=2) -> dict:
    generator = torch.Generator().manual_seed(1)
    tokens = grid[0] * grid[1]
    return {
        "rgb": torch.randn(batch, tokens, 8, generator=generator),
        "depth": torch.randn(batch, tokens, 64, generator=generator),
        "text": torch.randn(batch, 5, 16, generator=generator),
        "rgb_timestep": torch.rand(batch, generator=generator),
        "depth_timestep": torch.rand(batch, generator=generator),
        "grid": grid,
    }


@pytest.fixture(scope="module")
def pipeline(tiny_model_dir):
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")
    pipeline.register_modules(transformer=build(num_single_layers=2))
    return pipeline


def test_the_head_alone_is_larger():
    plain, windows = build("patches"), build()
    other = dict(windows.named_parameters())
    for name, parameter in plain.named_parameters():
        rows = 4 if name == "depth_proj_out.weight" else 1
        assert len(other[name]) == rows * len(parameter), name
    assert windows.config.depth_head == "windows"
    assert ModalityForcingTransformer2DModel(**SIZES).config.depth_head == "patches"


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (3, 2)])
def test_depth_tokens_have_the_shape_that_they_came_in(grid):
    given = inputs(grid)
    output = build()(**given)
    assert output.depth.shape == given["depth"].shape
    assert output.depth.dtype is torch.float32
    assert output.rgb.shape == given["rgb"].shape


def test_every_weight_of_the_head_learns():
    model = build()
    model(**inputs((3, 3))).depth.square().sum().backward()
    assert (model.depth_proj_out.weight.grad.abs().amax(dim=1) > 0).all()
    assert model.depth_embedder.weight.grad.abs().sum() > 0


def test_a_token_is_seen_half_a_patch_around_its_own():
    """What the head makes of a token; what attention makes of it reaches everywhere."""
    model, given = build(), inputs((3, 3))
    kept = []

    def change(module, arguments, states):
        states = states.clone()
        if kept:
            states[:, 4] += 1
        kept.append(states)
        return states

    handle = model.depth_norm_out.register_forward_hook(change)
    with torch.no_grad():
        before, after = model(**given).depth, model(**given).depth
    handle.remove()
    changed = unpatchify(after - before, 8, (3, 3))[:, 0] != 0
    assert changed[:, 4:20, 4:20].all()
    assert changed.sum() == 2 * 16 * 16


def test_random_weights_leave_jumps_between_patches_and_hardly_any_between_windows():
    """Each token makes a plane: smooth inside, and unlike its neighbours'."""
    ratios = {}
    for kind, side in (("patches", 8), ("windows", 16)):
        model = build(kind)
        generator = torch.Generator().manual_seed(2)
        steps = (torch.arange(side) - (side - 1) / 2) / 8
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        planes = torch.stack([torch.ones_like(rows), rows, columns], dim=-1).flatten(0, 1)
        weights = planes @ torch.randn(3, 32, generator=generator)
        model.depth_proj_out.weight.data.copy_(0.02 * weights)
        with torch.no_grad():
            tokens = model(**inputs((8, 8))).depth
        maps = unpatchify(tokens, 8, (8, 8))[:, 0].exp().numpy()
        ratios[kind] = np.mean([seam_ratio(one, 8) for one in maps])
    assert ratios["windows"] < 1.8 < 6 < ratios["patches"]


def test_it_is_saved_and_loaded(tmp_path):
    model, given = build(), inputs()
    model.save_pretrained(tmp_path)
    again = ModalityForcingTransformer2DModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(**given).depth, model(**given).depth)
    half = ModalityForcingTransformer2DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.depth_proj_out.weight.dtype is torch.float32


def test_it_samples_in_every_mode(pipeline):
    given = np.random.default_rng(0)
    image = given.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    depth = given.uniform(1, 2, (2, 32, 48)).astype(np.float32)
    for arguments in (
        {"height": 32, "width": 48, "refine_steps": 1, "depth_start": 0.97},
        {"mode": "i2d", "image": image},
        {"mode": "d2i", "depth": depth},
    ):
        pairs = pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=3, **arguments)
        assert pairs.rgb.shape == (2, 32, 48, 3)
        assert pairs.depth.shape == (2, 32, 48)
        assert np.isfinite(pairs.depth).all()


def test_the_step_cache_always_runs_it(pipeline):
    def sample():
        return pipeline(PROMPTS, seeds=[1, 2], num_inference_steps=6, output_type="latent")

    plain = sample()
    with step_cache(pipeline.transformer, 0.0):
        assert torch.equal(sample().depth, plain.depth)
    with step_cache(pipeline.transformer, 1e9, depth_level=0.5):
        reused = sample()
    assert torch.isfinite(reused.depth).all()
    assert not torch.equal(reused.depth, plain.depth)


def test_a_flux2_base_takes_it():
    joint = from_flux2(
        build_base(), depth_patch=8, num_depth_decoder_layers=1, depth_head="windows"
    )
    assert joint.depth_proj_out.weight.shape == (4 * 64, 32)
    assert (joint.depth_proj_out.weight == 0).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth_head": "tiles"}, "'patches' or 'windows'"),
        ({"depth_channels": 49}, "even size"),
        ({"depth_channels": 60}, "even size"),
    ],
)
def test_what_can_have_no_windows_is_told(changes, said):
    with pytest.raises(ValueError, match=said):
        build(**changes)
