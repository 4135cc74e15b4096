"""The policy that one forward of a few-step model gives, and its integration without the network.

Source: Chen et al., "pi-Flow: Policy-Based Few-Step Generation via Imitation Distillation", arXiv
2510.14974; its "DX" policy, with the integral in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """The clean image as it is expected at some levels of a segment; linear in t between them.

    The velocity at z and t is (z − x̂(t)) / t. Hence d(z/t)/dt = −x̂(t)/t², which has an integral
    in closed form where x̂ is linear in t: no steps, and no error of theirs.

    Attributes:
        clean: (B, K, N, C) x̂ at K levels, evenly spaced from `start` to `end`; of one level, all
            along.
        start: (B,) noise level that the segment begins at, above 0.
        end: (B,) that it ends at, below.
    """

    clean: Tensor
    start: Tensor
    end: Tensor

    @classmethod
    def of(
        cls, output: Tensor, noisy: Tensor, start: Tensor, end: Tensor, *, is_velocity: bool
    ) -> Policy:
        """The policy that a few-step model puts out.

        Args:
            output: (B, N, K · C) its prediction for each level: clean tokens, or velocities, by
                which x̂ = z − t·v at the segment's beginning.
            noisy: (B, N, C) what it was given.
            start: (B,) level that it was given.
            end: (B,) level to go to.
            is_velocity: Whether the model predicts velocities.
        """
        points = output.unflatten(-1, (-1, noisy.shape[-1])).movedim(2, 1)
        if is_velocity:
            points = noisy[:, None] - start[:, None, None, None] * points
        return cls(points, start, end)

    @property
    def pieces(self) -> int:
        """Parts of the segment in which x̂ is linear."""
        return max(1, self.clean.shape[1] - 1)

    def detach(self) -> Policy:
        """The same without gradients."""
        return Policy(self.clean.detach(), self.start, self.end)

    def clean_at(self, t: Tensor) -> Tensor:
        """x̂ (B, N, C) at levels (B,) of the segment."""
        place = ((self.start - t) / (self.start - self.end)).clamp(0, 1) * self.pieces
        first = place.floor().clamp(max=self.pieces - 1)
        rows, last = torch.arange(len(t), device=t.device), self.clean.shape[1] - 1
        here = self.clean[rows, first.long().clamp(max=last)]
        following = self.clean[rows, (first.long() + 1).clamp(max=last)]
        return torch.lerp(here, following, (place - first)[:, None, None])

    def roll(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Go from (B, N, C) tokens at the segment's beginning to levels t, (B,), inside of it."""
        level, edge = self.start, self.start
        width = (self.start - self.end) / self.pieces
        for piece in range(self.pieces):
            is_last = piece == self.pieces - 1
            lower = self.end if is_last else self.start - (piece + 1) * width
            target = torch.minimum(level, torch.maximum(t, lower))
            first = self.clean[:, piece]
            second = self.clean[:, min(piece + 1, self.clean.shape[1] - 1)]
            noisy = _flow(noisy, first, second, edge, width, level, target)
            level, edge = target, lower
        return noisy


def _flow(
    noisy: Tensor,
    first: Tensor,
    second: Tensor,
    edge: Tensor,
    width: Tensor,
    level: Tensor,
    target: Tensor,
) -> Tensor:
    """Z at `target` for z at `level`, where x̂ goes from `first` at `edge` to `second` in `width`.

    With x̂(t) = a + b·t and r = target / level it is r·z + (1 − r)·a − b·target·ln r.
    """
    edge, width, level, target = (part[:, None, None] for part in (edge, width, level, target))
    slope = (first - second) / width
    ratio = target / level
    # At level 0 nothing of the noise is left: 0 · ln 0 is 0 here.
    rest = torch.xlogy(target, ratio)
    return ratio * noisy + (1 - ratio) * (first - slope * edge) - rest * slope
