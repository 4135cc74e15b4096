from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.config.presets import SAMPLER_PRESETS
from mfsynth.models.guidance import Guidance
from mfsynth.models.sampling import integrate
from mfsynth.models.schedules import Mode, Schedule, schedule, shift_time, tilt


def logit(t: torch.Tensor) -> torch.Tensor:
    return torch.log(t / (1 - t))


@given(t=st.floats(0.01, 0.99), mu=st.floats(-3, 3), log2_alpha=st.floats(-5, 5))
def test_shift_and_tilt_are_shifts_of_the_logit(t, mu, log2_alpha):
    level = torch.tensor([t], dtype=torch.float64)
    torch.testing.assert_close(logit(shift_time(level, mu)), logit(level) + mu)
    torch.testing.assert_close(
        logit(tilt(level, log2_alpha)), logit(level) + log2_alpha * math.log(2)
    )


@given(mode=st.sampled_from(Mode), steps=st.integers(1, 80), log2_alpha=st.floats(-6, 6))
def test_a_generated_modality_falls_from_noise_to_clean_and_a_given_one_stays_clean(
    mode, steps, log2_alpha
):
    nodes = schedule(mode, steps, rgb_mu=1.1, depth_mu=1.1, log2_alpha=log2_alpha)
    given_levels = {Mode.IMAGE_TO_DEPTH: nodes.rgb, Mode.DEPTH_TO_IMAGE: nodes.depth}
    for levels in (nodes.rgb, nodes.depth):
        if levels is given_levels.get(mode):
            assert (levels == 0).all()
        else:
            assert levels[0] == 1
            assert levels[-1] == 0
            assert (levels.diff() < 0).all()


@given(
    share=st.floats(0.05, 1),
    steps=st.integers(2, 60),
    log2_alpha=st.floats(0, 6),
    mus=st.tuples(st.floats(0, 3), st.floats(0, 3)),
)
def test_spacing_for_depth_keeps_the_path_and_moves_only_its_nodes(share, steps, log2_alpha, mus):
    nodes = schedule(
        Mode.JOINT,
        steps,
        rgb_mu=mus[0],
        depth_mu=mus[1],
        log2_alpha=log2_alpha,
        depth_step_share=share,
    )
    assert nodes.rgb[0] == nodes.depth[0] == 1
    assert nodes.rgb[-1] == nodes.depth[-1] == 0
    assert (nodes.rgb.diff() < 0).all()
    torch.testing.assert_close(tilt(nodes.rgb, log2_alpha), nodes.depth, atol=1e-5, rtol=1e-5)


def test_spaced_for_depth_alone_depth_follows_its_own_schedule():
    nodes = schedule(Mode.JOINT, 10, rgb_mu=1.1, depth_mu=2.5, log2_alpha=5, depth_step_share=1)
    own = schedule(Mode.IMAGE_TO_DEPTH, 10, rgb_mu=1.1, depth_mu=2.5, log2_alpha=5)
    torch.testing.assert_close(nodes.depth, own.depth, atol=1e-3, rtol=0)


def test_depth_stays_noise_until_it_starts():
    free = schedule(Mode.JOINT, 20, rgb_mu=1.1, depth_mu=1.1, log2_alpha=5)
    late = schedule(Mode.JOINT, 20, rgb_mu=1.1, depth_mu=1.1, log2_alpha=5, depth_start=0.97)
    assert torch.equal(late.rgb, free.rgb)
    started = free.depth <= 0.97
    assert torch.equal(late.depth[started], free.depth[started])
    assert (late.depth[~started] == 1).all()
    assert 5 < (~started).sum() < 19


def test_depth_that_never_starts_is_noise_to_the_end():
    nodes = schedule(Mode.JOINT, 5, rgb_mu=1.1, depth_mu=1.1, log2_alpha=5, depth_start=0.0)
    assert (nodes.depth == 1).all()
    assert nodes.rgb[-1] == 0


def test_i2d_may_begin_at_any_level():
    nodes = schedule(
        Mode.IMAGE_TO_DEPTH, 4, rgb_mu=1.1, depth_mu=2.0, log2_alpha=5, depth_start=0.6
    )
    assert nodes.depth[0].item() == pytest.approx(0.6)
    assert nodes.depth[-1] == 0
    assert (nodes.depth.diff() < 0).all()


def test_a_stream_of_pure_noise_is_not_shown_to_the_model():
    seen = []

    def predict(rgb, depth, t_rgb, t_depth):
        seen.append(depth is not None)
        return rgb, None if depth is None else torch.zeros_like(depth)

    nodes = Schedule(torch.tensor([1.0, 0.6, 0.3, 0]), torch.tensor([1.0, 1.0, 0.5, 0]))
    noise = torch.randn(1, 4, 3)
    integrate(predict, noise, noise, nodes, rgb_is_velocity=False)
    assert seen == [False, True, True]


def test_an_exact_clean_prediction_is_reached_whatever_the_number_of_steps():
    clean = torch.randn(1, 4, 3)
    for steps in (1, 7, 100):
        nodes = schedule(Mode.JOINT, steps, rgb_mu=1.1, depth_mu=1.1, log2_alpha=5)
        rgb, depth = integrate(
            lambda *_: (clean, clean),
            torch.randn(1, 4, 3),
            torch.randn(1, 4, 3),
            nodes,
            rgb_is_velocity=False,
        )
        assert torch.equal(rgb, clean)
        assert torch.equal(depth, clean)


def test_a_constant_velocity_moves_noise_to_clean():
    clean, noise = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    levels = torch.tensor([1.0, 0.7, 0.2, 0.0])
    rgb, _ = integrate(
        lambda *_: (noise - clean, clean),
        noise,
        noise,
        Schedule(levels, levels),
        rgb_is_velocity=True,
    )
    torch.testing.assert_close(rgb, clean)


def test_presets_take_the_forwards_that_the_docs_say():
    found = {}
    for name, preset in SAMPLER_PRESETS.items():
        levels = schedule(
            Mode.JOINT,
            preset["steps"],
            rgb_mu=1.1,
            depth_mu=1.1,
            log2_alpha=preset["log2_alpha"],
            depth_start=preset["depth_start"],
        )
        guidance = Guidance(
            preset["guidance"], preset["depth_guidance"], preset["guidance_interval"]
        )
        image = sum(1 + guidance.acts(t) for t in levels.rgb[:-1].tolist())
        found[name] = (image, preset["refine_steps"], bool((levels.depth == 1).all()))
    assert found == {
        "reference": (100, 50, False),
        "balanced": (49, 4, False),
        "fast": (26, 2, False),
        "image_then_depth": (32, 1, True),
        "distilled": (4, 1, True),
    }
