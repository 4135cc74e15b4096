"""Whether the objects that a prompt names are in the image: judged by a network of its own.

The judge is a small convolutional classifier that learns from rendered scenes which pairs of colour
and shape, which table and which view a caption names. Three figures bound each other: what it finds
in held-out rendered images (the most that any generator can reach), in generated ones, and in
generated ones when it is asked for another prompt's objects (chance).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfsynth.geometry.resizing import resize_image
from mfsynth.models.recognition.judge import ObjectJudge, load_judge
from mfsynth.simulation import CachedScenes
from mfsynth.simulation.scene import COLOURS
from mfsynth.simulation.styles import SHAPES

WIDTHS = (32, 64, 128)
STEPS, BATCH, RATE = 3000, 64, 2e-3

_OBJECT = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
_COLOURS, _SHAPES = list(COLOURS), list(SHAPES)


@dataclass(frozen=True, slots=True)
class Found:
    """Shares of what is named that the judge finds.

    Attributes:
        objects: Of the objects, with their colour and their shape.
        colours: Of the colours of objects.
        shapes: Of the shapes.
    """

    objects: float
    colours: float
    shapes: float


def named(caption: str) -> list[tuple[int, int]]:
    """(colour, shape) of every object that a caption names."""
    return [
        (_COLOURS.index(colour), _SHAPES.index(shape))
        for colour, shape in _OBJECT.findall(caption.lower())
    ]


def train_judge(scenes: CachedScenes, folder: Path, seed: int = 0) -> ObjectJudge:
    """Train the judge, or load what an earlier call has trained.

    What it writes is a folder that the check `prompt_objects` takes, in bfloat16.
    """
    if folder.exists():
        return load_judge(folder)
    torch.manual_seed(seed)
    judge = ObjectJudge(_COLOURS, _SHAPES, WIDTHS, scenes.rgb.shape[1])
    labels = torch.zeros(len(scenes), len(COLOURS), len(SHAPES))
    for row, caption in enumerate(scenes.captions):
        for colour, shape in named(caption):
            labels[row, colour, shape] = 1
    optimiser = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
    generator = np.random.default_rng(seed)
    with click.progressbar(range(STEPS), label="training the judge") as steps:
        for _ in steps:
            rows = np.sort(generator.choice(len(scenes), BATCH, replace=False))
            images = _as_input(scenes.rgb[rows], judge.config.size)
            if generator.random() < 0.5:
                images = images.flip(3)
            with torch.autocast("cpu", torch.bfloat16):
                logits = judge(images)
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits.float(), labels[rows].flatten(1), reduction="sum"
            )
            (loss / BATCH).backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    judge.bfloat16().save_pretrained(folder)
    return load_judge(folder)


@torch.no_grad()
def follow(judge: ObjectJudge, images: NDArray[np.uint8], captions: Sequence[str]) -> Found:
    """Look for the objects of each caption in its image.

    As many objects are taken as found as the caption names, the likeliest ones: the judge can't
    gain by seeing everything everywhere.
    """
    right = {"objects": 0, "colours": 0, "shapes": 0}
    asked = 0
    for start in range(0, len(images), BATCH):
        logits = judge(_as_input(images[start : start + BATCH], judge.config.size))
        for row, caption in zip(logits, captions[start : start + BATCH], strict=True):
            wanted = named(caption)
            asked += len(wanted)
            best = row.topk(len(wanted)).indices
            found = [divmod(int(index), len(SHAPES)) for index in best]
            right["objects"] += _shared(wanted, found)
            right["colours"] += _shared([w[0] for w in wanted], [f[0] for f in found])
            right["shapes"] += _shared([w[1] for w in wanted], [f[1] for f in found])
    return Found(**{name: count / asked for name, count in right.items()})


def _shared(wanted: Sequence[object], found: Sequence[object]) -> int:
    left = list(found)
    count = 0
    for one in wanted:
        if one in left:
            left.remove(one)
            count += 1
    return count


def _as_input(images: NDArray[np.uint8], size: int) -> Tensor:
    # Of another size things are other things to it.
    seen = np.stack([resize_image(image, size, size) for image in images])
    return torch.from_numpy(seen).permute(0, 3, 1, 2) / 127.5 - 1
