"""Muon: each matrix moves by its momentum, orthogonalised.

`torch.optim.Muon` does the same in bfloat16 alone, which many CPUs only emulate: there a step of it
takes many times what the model's forward and backward pass take. And a fused matrix is one to it.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the size of
steps from Liu et al., arXiv 2502.16982.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

# Of the quintic X ← aX + b(XXᵀ)X + c(XXᵀ)²X, which takes singular values into about [0.7, 1.2].
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95
# Root mean square of AdamW's steps, so that both have rates and decay of one size.
_STEP_RMS = 0.2
# Elements: 64 MiB in float32.
_MOVED_AT_ONCE = 2**24


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
            rate, rows = group["lr"], group["rows"]
            for matrices in _together(group["params"]):
                gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
                momenta = [self._momentum(matrix) for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
                updates = torch.stack(torch._foreach_lerp(gradients, momenta, _MOMENTUM))
                torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
                steps = _steps(updates, rows, self._precision)
                torch._foreach_add_(matrices, steps.unbind(), alpha=-rate)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def _together(matrices: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Those that have a gradient, of one shape each time, as many as are moved at once.

    One by one, the matrices of a small model are a thousand kernels that a GPU waits for; those of
    a large one are work enough, and all at once would take memory for each of them again.
    """
    alike: defaultdict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        if matrix.grad is not None:
            alike[tuple(matrix.shape)].append(matrix)
    for found in alike.values():
        count = max(1, _MOVED_AT_ONCE // found[0].numel())
        for first in range(0, len(found), count):
            yield found[first : first + count]


def _steps(updates: Tensor, rows: Sequence[int], precision: torch.dtype) -> Tensor:
    """The orthogonalised maps of fused matrices (K, m, n), each of AdamW's step size."""
    return torch.cat(
        [
            _STEP_RMS * math.sqrt(max(part.shape[1:])) * orthogonalised(part, precision)
            for part in updates.split(tuple(rows), dim=1)
        ],
        dim=1,
    )


def orthogonalised(matrices: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """(..., m, n) with the same singular vectors, and singular values of about 1.

    Powers of the small XXᵀ alone, with X at the end, would be half of the work, but what bfloat16
    rounds away of its small eigenvalues makes some negative, and the iteration drives those to
    infinity.
    """
    is_wide = matrices.shape[-2] <= matrices.shape[-1]
    wide = (matrices if is_wide else matrices.mT).to(precision)
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * (gram @ gram)) @ wide
    wide = wide.to(matrices.dtype)
    return wide if is_wide else wide.mT
