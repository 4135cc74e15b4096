"""What a mode asks of the model, and what it says of the result."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mfsynth.config.schema import SamplerConfig
from mfsynth.geometry import DepthKind
from mfsynth.prompts import derive_seed
from mfsynth.runs.making import MODES, depth_to_images, joint, with_own_depth
from mfsynth.runs.plan import Candidate
from mfsynth.sources.base import Item

CANDIDATES = [Candidate(n, f"run-{n}", Item(text=f"cup {n}"), 100 + n) for n in range(3)]
EMBEDS = ["one", "two", "three"]


class Recorder:
    """A pipeline that notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, **asked):
        self.asked.append(asked)
        count = len(asked["seeds"])
        size = asked.get("height") or 4, asked.get("width") or 4
        depth = np.full((count, *size), len(self.asked), np.float32)
        return SimpleNamespace(rgb=np.zeros((count, *size, 3), np.uint8), depth=depth)


@pytest.fixture
def model():
    return Recorder()


def test_joint_makes_relative_depth_of_prompts_and_seeds_as_the_sampler_says(model):
    sampler = SamplerConfig(preset="fast", steps=3, guidance=2.0)
    batch = joint(model, sampler, CANDIDATES, EMBEDS)
    (asked,) = model.asked
    given = {"prompt_embeds": EMBEDS, "seeds": [100, 101, 102], "mode": "joint"}
    assert asked == given | sampler.pipeline_arguments()
    assert list(batch.candidates) == CANDIDATES
    assert batch.rgb.shape == (3, 4, 4, 3)
    assert (batch.depth == 1).all()
    assert batch.depth_kinds == [DepthKind.SCALE_INVARIANT_Z] * 3
    assert batch.joint_depth is None


def test_the_models_own_depth_is_of_the_same_images_from_other_noise_without_guidance(model):
    sampler = SamplerConfig(preset="fast")
    batch = joint(model, sampler, CANDIDATES, EMBEDS)
    found = with_own_depth(model, batch, EMBEDS, steps=5)
    asked = model.asked[1]
    assert asked["image"] is batch.rgb
    assert asked["seeds"] == [derive_seed(seed, "i2d") for seed in (100, 101, 102)]
    assert (asked["mode"], asked["num_inference_steps"], asked["guidance_scale"]) == ("i2d", 5, 1.0)
    assert (found.depth == 2).all()
    assert (found.joint_depth == 1).all()
    assert found.rgb is batch.rgb


def test_the_model_sees_holes_and_what_is_beside_a_map_as_their_nearest_depth(model):
    maps = [np.full((32, 64), 2, np.float32), np.full((64, 64), 3, np.float32)]
    maps[0][:, 32:] = 5
    # At the border, within, and about where both depths meet.
    for hole in (np.s_[:9, :], np.s_[20:24, 7:12], np.s_[:, 28:36]):
        maps[0][hole] = 0
    given = [one.copy() for one in maps]
    candidates = [
        Candidate(number, f"run-{number}", Item(depth=one), number)
        for number, one in enumerate(maps)
    ]
    batch = depth_to_images(model, SamplerConfig(mode="d2i", height=64, width=64), candidates, [])
    (asked,) = model.asked
    halves = np.broadcast_to(np.where(np.arange(64) < 32, np.float32(2), np.float32(5)), (64, 64))
    assert np.array_equal(asked["depth"], [halves, maps[1]])
    # What is stored has its holes.
    assert all(np.array_equal(one, own) for one, own in zip(batch.depth, given, strict=True))
    assert [one.shape for one in batch.rgb] == [(32, 64, 3), (64, 64, 3)]


def test_modes_have_the_names_that_configurations_give_them():
    known = SamplerConfig.model_fields["mode"].annotation.__args__
    assert {*MODES} <= {*known}
