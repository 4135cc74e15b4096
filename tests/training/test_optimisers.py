"""How fast which weights move."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tiny_training import make_components, optimiser

from mfsynth.training.optimisers import build_optimisers, learning_rate_factor


def test_the_rate_warms_up_in_each_phase_stays_and_falls_at_the_end():
    config = optimiser(image_steps=50, joint_steps=100, warmup_steps=10, decay_share=0.3)
    rates = [learning_rate_factor(step, config) for step in range(151)]
    for start in (0, 50):
        assert rates[start] == pytest.approx(0.1)
    assert rates[10:50] == [1] * 40
    assert rates[60:120] == [1] * 60
    assert all(later < earlier for earlier, later in pairwise(rates[121:146]))
    assert rates[150] == pytest.approx(0.05)


def test_rates_of_backbone_and_depth_modules_are_apart():
    config = optimiser(muon_learning_rate=None, adamw_learning_rate=1e-5, depth_learning_rate=1e-4)
    trained = make_components(config).model.trained()
    [adamw] = build_optimisers(trained, config)
    rates = {id(p): group["lr"] for group in adamw.param_groups for p in group["params"]}
    for name, parameter in trained.items():
        assert rates[id(parameter)] == (1e-4 if "depth" in name else 1e-5), name
