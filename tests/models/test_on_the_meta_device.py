"""The released model at its full size on the meta device: no weights, shapes and devices only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mfsynth.config.presets import SAMPLER_PRESETS
from mfsynth.config.schema import SamplerConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROMPTS = ["a cup on a table", "a table"]
# TFLOP of a sample's forward at 512×512 (torch's counter; MODEL: 41.1 and 22.7).
WITH_DEPTH, WITHOUT_DEPTH = 41.08, 22.73


@pytest.fixture(scope="module")
def released():
    """The pipeline, its prompts encoded, and what counts work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import meta_model

        pipeline = meta_model.released_pipeline()
        with meta_model.on_meta(), meta_model.counting(pipeline.transformer) as work_of:
            yield pipeline, pipeline.encode_prompts(PROMPTS, batch_size=1), work_of


def test_prompts_are_encoded(released):
    _, embeds, _ = released
    assert embeds.shape == (2, 512, 12288)
    assert embeds.dtype is torch.bfloat16
    assert embeds.device.type == "meta"


def sample(released, **settings):
    pipeline, embeds, work_of = released
    work, pairs = work_of(
        lambda: pipeline(prompt_embeds=embeds, seeds=[1, 2], output_type="pt", **settings)
    )
    assert pairs.rgb.shape == (2, 3, 512, 512)
    assert pairs.depth.shape == (2, 512, 512)
    assert (pairs.rgb.device.type, pairs.depth.device.type) == ("meta", "meta")
    assert (pairs.rgb.dtype, pairs.depth.dtype) == (torch.float32, torch.float32)
    expected = work.with_depth * WITH_DEPTH + work.without_depth * WITHOUT_DEPTH
    assert work.flops / 1e12 == pytest.approx(expected, rel=1e-3)
    return work


@pytest.mark.parametrize("preset", SAMPLER_PRESETS)
def test_every_preset_samples_pairs(released, preset):
    sampler = SamplerConfig(preset=preset)
    work = sample(released, **sampler.pipeline_arguments())
    # Two samples.
    assert work.with_depth + work.without_depth >= 2 * (sampler.steps + sampler.refine_steps)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("mode", ["i2d", "d2i"])
def test_one_modality_is_made_of_the_other(released, mode, guidance):
    given = {"image": np.zeros((2, 512, 512, 3), np.uint8)}
    if mode == "d2i":
        given = {"depth": np.ones((2, 512, 512), np.float32)}
    work = sample(released, mode=mode, num_inference_steps=3, guidance_scale=guidance, **given)
    assert (work.with_depth, work.without_depth) == (6 if guidance == 1 else 12, 0)


def test_five_forwards_of_a_distilled_model_are_a_thirtieth_of_a_hundred(released):
    """Four for the image without depth tokens, one for depth: `benchmarks/sampling.py --flops`."""
    import sampling

    work = sample(released, **sampling._preset("distilled", guidance=4.0))
    assert (work.with_depth, work.without_depth) == (2, 8)
    assert work.flops / 2 < 100 * WITH_DEPTH * 1e12 / 30
