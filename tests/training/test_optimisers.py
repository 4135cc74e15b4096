"""How fast which weights move."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from tiny_training import make_components, optimiser
from torch import nn

from mfsynth.training.muon import Muon, orthogonalised
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


def test_muon_gives_each_stacked_map_orthogonal_steps_of_adamws_size():
    generator = torch.Generator().manual_seed(0)
    gate, content = torch.randn((2, 6, 12), generator=generator)
    matrix = nn.Parameter(torch.zeros(12, 12))
    muon = Muon([{"params": [matrix], "rows": (6, 6)}], lr=0.1)
    matrix.grad = torch.cat([gate, 1e-3 * content])
    muon.step()
    for step, gradient in zip((-10 * matrix.detach()).split(6), (gate, content), strict=True):
        singular = torch.linalg.svdvals(step) / (0.2 * 12**0.5)
        assert singular.min() > 0.65
        assert singular.max() < 1.25
        # The same singular vectors: the product with the gradient is symmetric and positive.
        product = step @ gradient.T
        torch.testing.assert_close(product, product.T, rtol=1e-3, atol=1e-4)
        assert torch.linalg.eigvalsh(product).min() > 0


@pytest.mark.parametrize("at_once", [1, 2 * 12 * 8, 2**24])
def test_matrices_that_muon_moves_together_move_as_each_alone(monkeypatch, at_once):
    monkeypatch.setattr("mfsynth.training.muon._MOVED_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(3)
    starts = [torch.randn(12, columns, generator=generator) for columns in (8, 8, 20, 8, 20)]
    gradients = [[torch.randn_like(start) for start in starts] for _ in range(2)]
    gradients[1][1] = None

    def moved(numbers):
        matrices = [nn.Parameter(starts[number].clone()) for number in numbers]
        muon = Muon([{"params": matrices, "rows": (4, 8)}], lr=0.1, weight_decay=0.1)
        for of in gradients:
            for matrix, number in zip(matrices, numbers, strict=True):
                matrix.grad = of[number]
            muon.step()
        return [matrix.detach() for matrix in matrices]

    alone = [moved([number])[0] for number in range(5)]
    torch.testing.assert_close(moved(range(5)), alone, rtol=1e-4, atol=1e-5)


# In bfloat16 both round, each in its own order.
@pytest.mark.parametrize(("precision", "apart"), [(torch.float32, 0.03), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8)])
def test_orthogonalised_equals_torchs_muon_but_for_its_precision(shape, precision, apart):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    parameter = nn.Parameter(torch.zeros(shape))
    reference = torch.optim.Muon([parameter], lr=1.0, weight_decay=0, momentum=0, nesterov=False)
    parameter.grad = matrix.clone()
    reference.step()
    scale = max(1, shape[0] / shape[1]) ** 0.5
    torch.testing.assert_close(
        -parameter.detach() / scale, orthogonalised(matrix, precision), rtol=0, atol=apart
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_gradient_of_low_rank_is_orthogonalised_to_bounded_singular_values(precision):
    generator = torch.Generator().manual_seed(2)
    left, right = torch.randn((2, 96, 4), generator=generator)
    found = orthogonalised(left @ right.T, precision)
    assert torch.linalg.svdvals(found.float()).max() < 1.3


def test_fused_matrices_of_blocks_are_taken_apart():
    config = optimiser(muon_learning_rate=1e-3)
    trained = make_components(config).model.trained()
    muon, _ = build_optimisers(trained, config)
    rows = {id(p): group["rows"] for group in muon.param_groups for p in group["params"]}
    for name, parameter in trained.items():
        if id(parameter) not in rows:
            continue
        assert sum(rows[id(parameter)]) == len(parameter)
        stacked = {"to_qkv_mlp_proj": 5, "linear_in": 2}.get(name.split(".")[-2], 1)
        assert len(rows[id(parameter)]) == stacked, name
