"""What moves which weights, and how fast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from mfsynth.training.config import LoopConfig, OptimiserConfig
from mfsynth.training.muon import Muon

Optimisers = tuple[torch.optim.Optimizer, ...]

MAX_GRADIENT_NORM = 1.0


def learning_rate_factor(step: int, config: LoopConfig) -> float:
    """Warm up in each phase, stay, and fall linearly to 5 % at the end of the last."""
    starts = accumulate(config.phases[:-1], initial=0)
    start = max(first for first in starts if first <= step)
    warm = min(1.0, (step - start + 1) / max(1, config.warmup_steps))
    decay_steps = max(1, round(config.phases[-1] * config.decay_share))
    left = min(1.0, (config.total_steps - step) / decay_steps)
    return warm * max(0.05, left)


def build_optimisers(trained: Mapping[str, nn.Parameter], config: OptimiserConfig) -> Optimisers:
    """AdamW for all weights; or Muon for the matrices inside of blocks, and AdamW for the rest.

    Args:
        trained: Parameters by their names in a `JointModel`.
        config: Rates and decay.
    """
    muon_rate, rate = config.muon_learning_rate, config.adamw_learning_rate
    matrices = {
        name: parameter
        for name, parameter in trained.items()
        if muon_rate is not None and is_block_matrix(name, parameter)
    }
    rest = {name: parameter for name, parameter in trained.items() if name not in matrices}
    depth = {name: parameter for name, parameter in rest.items() if is_depth(name)}
    backbone = [parameter for name, parameter in rest.items() if name not in depth]
    groups = [
        {"params": backbone, "lr": rate, "name": "adamw"},
        {
            "params": list(depth.values()),
            "lr": config.depth_learning_rate or rate,
            "name": "adamw_depth",
        },
    ]
    adamw = build_adamw([group for group in groups if group["params"]], config.weight_decay)
    if muon_rate is None:
        return (adamw,)
    stacked: defaultdict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in matrices.items():
        stacked[stacked_rows(name, parameter)].append(parameter)
    muon = Muon(
        [{"params": alike, "rows": rows, "name": "muon"} for rows, alike in stacked.items()],
        lr=muon_rate,
        weight_decay=config.weight_decay,
        precision=torch.bfloat16 if config.precision == "bfloat16" else torch.float32,
    )
    return muon, adamw


def build_adamw(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW for groups of parameters, each with its `params`, its rate `lr` and its `name`."""
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)


def is_depth(name: str) -> bool:
    """Whether a parameter is one of those that Modality Forcing adds to a text-to-image model."""
    return "depth" in name


def sees_depth_level(name: str) -> bool:
    """Whether a parameter is of what tells RGB depth's noise level, also without depth tokens."""
    return "depth_to_rgb_time_embed." in name


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix inside of a block of transformer or text encoder."""
    return parameter.ndim == 2 and ("blocks." in name or ".layers." in name)


def stacked_rows(name: str, matrix: Tensor) -> tuple[int, ...]:
    """Heights of the linear maps that a block's matrix has on top of each other.

    A single-stream block computes queries, keys, values, and the gate and content of its MLP by one
    matrix; the MLPs of the others gate and content.
    """
    rows, columns = matrix.shape
    if name.endswith("to_qkv_mlp_proj.weight"):
        half = (rows - 3 * columns) // 2
        return (columns, columns, columns, half, half)
    if name.endswith("linear_in.weight"):
        return (rows // 2, rows // 2)
    return (rows,)


def step(optimisers: Optimisers, factor: float) -> None:
    """Move the weights, each group at its own rate times a factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            # Where the rate began is what a scheduler of torch would keep under this name, too.
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        optimiser.step()


def rates(optimisers: Optimisers) -> dict[str, float]:
    """The present learning rate of each group of weights."""
    return {
        group["name"]: group["lr"] for optimiser in optimisers for group in optimiser.param_groups
    }


def zero_gradients(optimisers: Optimisers) -> None:
    """Free all gradients."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
