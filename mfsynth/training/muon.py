"""Muon: each matrix moves by its momentum, orthogonalised.

`torch.optim.Muon` does the same in bfloat16 alone, which many CPUs only emulate: there a step of it
takes many times what the model's forward and backward pass take. And a fused matrix is one to it.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the size of
steps from Liu et al., arXiv 2502.16982.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

# Of the quintic X ← aX + b(XXᵀ)X + c(XXᵀ)²X, which takes singular values into about [0.7, 1.2].
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95
# Root mean square of AdamW's steps, so that both have rates and decay of one size.
_STEP_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Moves matrices alone.

    Args:
        groups: Each a dictionary with `params`, matrices (m, n), and `rows`, the heights of the
            linear maps that are stacked in every one of them; their sum is m.
        lr: Learning rate.
        weight_decay: Decoupled from the step, times the rate.
        precision: That matrices are orthogonalised in.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - _MOMENTUM)
                update = matrix.grad.lerp(momentum, _MOMENTUM)
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                steps = _steps(update, group["rows"], self._precision)
                matrix.add_(steps, alpha=-group["lr"])


def _steps(update: Tensor, rows: Sequence[int], precision: torch.dtype) -> Tensor:
    """The orthogonalised maps of a fused matrix, each of AdamW's step size."""
    return torch.cat(
        [
            _STEP_RMS * math.sqrt(max(part.shape)) * orthogonalised(part, precision)
            for part in update.split(tuple(rows))
        ]
    )


def orthogonalised(matrix: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """(m, n) with the same singular vectors, and singular values of about 1.

    Powers of the small XXᵀ alone, with X at the end, would be half of the work, but what bfloat16
    rounds away of its small eigenvalues makes some negative, and the iteration drives those to
    infinity.
    """
    wide = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T).to(precision)
    wide = wide / wide.norm().clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    wide = wide.to(matrix.dtype)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
