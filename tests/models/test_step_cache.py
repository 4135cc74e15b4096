from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline
from mfsynth.models.acceleration.step_cache import step_cache
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

PROMPTS = ["a red cube on a table", "a blue ball"]
STEPS = 8
EVERYTHING = 1e9
"""A threshold under which every change is little."""


@pytest.fixture(scope="module")
def pipeline(tiny_model_dir):
    """The tiny pipeline with blocks between the first and the last."""
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")
    torch.manual_seed(0)
    config = dict(pipeline.transformer.config, num_layers=2, num_single_layers=2)
    pipeline.register_modules(transformer=ModalityForcingTransformer2DModel.from_config(config))
    return pipeline


def sample(pipeline, **changes):
    settings = {"seeds": [1, 2], "num_inference_steps": STEPS, "output_type": "latent"}
    tilt = {} if "mode" in changes else {"log2_alpha": 2.0}
    return pipeline(PROMPTS, **(settings | tilt | changes))


@contextmanager
def watched(transformer):
    """Notes, for every forward, the level of depth (None without) and which blocks ran."""
    steps = []
    stacks = ("transformer_blocks", "single_transformer_blocks", "depth_decoder_blocks")

    def forward_begins(module, args, kwargs):
        level = kwargs["depth_timestep"]
        steps.append((None if level is None else level[0].item(), set()))

    handles = [transformer.register_forward_pre_hook(forward_begins, with_kwargs=True)]
    for stack in stacks:
        for index, block in enumerate(getattr(transformer, stack)):
            # A skipped block is still called, and passes on what it gets; its attention is not.
            handles.append(
                block.attn.register_forward_hook(
                    lambda *_, name=(stack, index): steps[-1][1].add(name)
                )
            )
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()


def full(ran):
    return {("transformer_blocks", 1), ("single_transformer_blocks", 0)} <= ran


def assert_equal(one, other):
    assert torch.equal(one.rgb, other.rgb)
    assert torch.equal(one.depth, other.depth)


def test_a_threshold_of_0_changes_nothing(pipeline):
    plain = sample(pipeline)
    with watched(pipeline.transformer) as steps, step_cache(pipeline.transformer, 0.0):
        cached = sample(pipeline)
    assert_equal(cached, plain)
    assert [full(ran) for _, ran in steps] == [True] * STEPS


def test_blocks_are_skipped_until_depth_forms_and_never_then(pipeline):
    with (
        watched(pipeline.transformer) as steps,
        step_cache(pipeline.transformer, EVERYTHING, depth_level=0.9),
    ):
        latents = sample(pipeline)
    levels = [level for level, _ in steps]
    assert 3 <= sum(level >= 0.9 for level in levels) <= STEPS - 2
    for step, (level, ran) in enumerate(steps):
        assert full(ran) == (step == 0 or level < 0.9)
        if not full(ran):
            assert ran == {("transformer_blocks", 0), ("depth_decoder_blocks", 0)}
    assert not torch.equal(latents.rgb, sample(pipeline).rgb)
    assert torch.isfinite(latents.depth).all()


def test_a_skipped_step_takes_the_update_of_the_last_full_step(pipeline):
    transformer = pipeline.transformer
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(2, 12, 16, generator=generator)

    def forward(shift):
        generator = torch.Generator().manual_seed(1)
        level = torch.full((2,), 0.98)
        rgb = torch.randn(2, 16, 8, generator=generator) + shift
        depth = torch.randn(2, 16, 64, generator=generator) + shift
        with torch.inference_mode():
            return transformer(rgb, depth, text, level, level, (4, 4))

    with step_cache(transformer, 0.5):
        before, again, near = forward(0.0), forward(0.0), forward(1e-3)
        far = forward(5.0)
    torch.testing.assert_close(again.rgb, before.rgb)
    torch.testing.assert_close(again.depth, before.depth)
    # Neither the old prediction nor quite the new one.
    assert not torch.equal(near.rgb, before.rgb)
    assert not torch.equal(near.depth, forward(1e-3).depth)
    torch.testing.assert_close(near.depth, forward(1e-3).depth, rtol=0, atol=1e-2)
    torch.testing.assert_close(far.depth, forward(5.0).depth)


def test_depth_tokens_that_appear_and_guidance_that_ends_begin_a_new_cache(pipeline):
    settings = {"depth_start": 0.97, "guidance_interval": (0.0, 0.85)}
    plain = sample(pipeline, **settings)
    with (
        watched(pipeline.transformer) as steps,
        step_cache(pipeline.transformer, EVERYTHING, depth_level=0.6),
    ):
        latents = sample(pipeline, **settings)
    assert torch.isfinite(latents.rgb).all()
    assert torch.isfinite(latents.depth).all()
    without = [level is None for level, _ in steps]
    first_with = without.index(False)
    assert first_with > 1
    assert full(steps[first_with][1])
    skipped = [not full(ran) for _, ran in steps]
    assert any(skipped[:first_with])
    assert any(skipped[first_with:])
    with step_cache(pipeline.transformer, 0.0):
        assert_equal(sample(pipeline, **settings), plain)


def test_depth_of_an_image_is_never_reused_below_the_level(pipeline):
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with watched(pipeline.transformer) as steps, step_cache(pipeline.transformer, EVERYTHING):
        sample(pipeline, mode="i2d", image=image)
    assert all(full(ran) for level, ran in steps if level < 0.95)
    assert not all(full(ran) for _, ran in steps)


def test_given_depth_does_not_form(pipeline):
    depth = np.linspace(1, 2, 2 * 32 * 32, dtype=np.float32).reshape(2, 32, 32)
    with watched(pipeline.transformer) as steps, step_cache(pipeline.transformer, EVERYTHING):
        sample(pipeline, mode="d2i", depth=depth)
    assert [full(ran) for _, ran in steps] == [True] + [False] * (STEPS - 1)


def test_nothing_is_left_behind_even_after_an_error(pipeline):
    plain = sample(pipeline)
    with (
        pytest.raises(MfsynthError, match="1 seeds"),
        step_cache(pipeline.transformer, EVERYTHING),
    ):
        sample(pipeline, seeds=[1])
    assert not pipeline.transformer.is_cache_enabled
    assert_equal(sample(pipeline), plain)
    with step_cache(pipeline.transformer, 0.0):
        assert_equal(sample(pipeline), plain)


@pytest.mark.parametrize("threshold", [-0.1, float("nan")])
def test_a_threshold_that_is_none_is_an_error(pipeline, threshold):
    with (
        pytest.raises(MfsynthError, match="at least 0"),
        step_cache(pipeline.transformer, threshold),
    ):
        pass


@pytest.mark.parametrize(
    "cache",
    [
        FirstBlockCacheConfig(threshold=EVERYTHING),
        MagCacheConfig(
            threshold=EVERYTHING,
            max_skip_steps=STEPS,
            retention_ratio=0.0,
            num_inference_steps=STEPS,
            mag_ratios=[1.0] * STEPS,
        ),
    ],
    ids=["first block", "magnitude"],
)
def test_caches_of_diffusers_take_our_blocks_as_their_own(pipeline, cache):
    transformer = pipeline.transformer
    transformer.enable_cache(cache)
    try:
        with watched(transformer) as steps, transformer.cache_context("denoise"):
            latents = sample(pipeline)
    finally:
        transformer.disable_cache()
    assert [full(ran) for _, ran in steps] == [True] + [False] * (STEPS - 1)
    assert torch.isfinite(latents.rgb).all()
    assert torch.isfinite(latents.depth).all()
