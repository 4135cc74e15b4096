"""The judge of the embedded model's images: which coloured shapes are in them.

It learns from rendered scenes and their captions (`benchmarks/prompt_following.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from mfsynth.geometry.resizing import resize_image
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.estimators.embedded import ResidualBlock
from mfsynth.models.weights import require_weights


class ObjectJudge(ModelMixin, ConfigMixin):
    """Logits of each pair of colour and shape being in an image.

    Args:
        colour_names: Words of colours.
        shape_names: Words of shapes.
        widths: Channels of each level, multiples of 8; the first has half of the image's rows and
            columns, each next one half of the last one's.
        size: Rows and columns of the images that it was trained on.
    """

    @register_to_config
    def __init__(
        self,
        colour_names: Sequence[str],
        shape_names: Sequence[str],
        widths: tuple[int, ...] = (32, 64, 128),
        size: int = 64,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1)]
        for fine, coarse in pairwise(widths):
            layers += [ResidualBlock(fine), nn.Conv2d(fine, coarse, 3, stride=2, padding=1)]
        self.features = nn.Sequential(*layers, ResidualBlock(widths[-1]), ResidualBlock(widths[-1]))
        self.colours = nn.Linear(widths[-1], len(colour_names))
        self.shapes = nn.Linear(widths[-1], len(shape_names))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [−1, 1] to (B, colours · shapes)."""
        # An object is somewhere: each place votes, and the strongest vote counts. What is red looks
        # the same on a cube and on a ball.
        places = self.features(images).flatten(2).transpose(1, 2)
        votes = self.colours(places)[..., None] + self.shapes(places)[..., None, :]
        return torch.logsumexp(votes.flatten(2), dim=1)

    @torch.inference_mode()
    def confidences(self, rgb: RgbImage, things: Sequence[str]) -> list[float]:
        """See `ThingFinder`; a thing is a colour and a shape, among other words."""
        image = resize_image(rgb, self.config.size, self.config.size)
        given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
        logits = self(given.to(self.device)).reshape(len(self.config.colour_names), -1)
        found = logits.sigmoid().cpu()
        return [
            float("nan") if place is None else float(found[place])
            for place in map(self._place, things)
        ]

    def _place(self, thing: str) -> tuple[int, int] | None:
        words = thing.lower().split()
        colours = [i for i, name in enumerate(self.config.colour_names) if name in words]
        shapes = [i for i, name in enumerate(self.config.shape_names) if name in words]
        if len(colours) != 1 or len(shapes) != 1:
            return None
        return colours[0], shapes[0]


def load_judge(folder: Path) -> ObjectJudge:
    """Load a judge on the CPU, in float32.

    Raises:
        MfsynthError: Its weights are not whole.
    """
    require_weights(ObjectJudge, folder)
    return ObjectJudge.from_pretrained(folder, local_files_only=True).float().eval()
