"""Rendered scenes that benchmarks measure on: those of today's embedded model, and of the first.

Scenes are of a prompt library and a style, one view each, kept in a cache folder; seeds say which.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prompt_following import train_judge

from mfsynth.models.recognition.catalogue import EMBEDDED_JUDGE, JUDGE, find_recogniser
from mfsynth.models.recognition.judge import ObjectJudge, load_judge
from mfsynth.prompts import load_library
from mfsynth.simulation import STYLES, CachedScenes, render_dataset, render_scene, scenes
from mfsynth.storage import atomic

SCENES = {"shapes": ("tabletop_shapes", "close"), "rooms": ("tabletop_rooms", "plain")}
"""Library and style; the embedded model is trained on the first."""

EMBEDDED_JUDGES = ("shapes", 64)
"""The set of which the judge in the package is, and the size that it brings images to."""

HELD_OUT_SEED, BASELINE_SEED = 1001, 1002
_JUDGE_SEED, _JUDGE_SCENES = 1002, 8000


def rendered(name: str, count: int, size: int, seed: int, cache: Path) -> CachedScenes:
    """Scenes of a set, rendered where they aren't there yet."""
    library, style = SCENES[name]
    return render_dataset(
        folder_of(name, count, size, seed, cache),
        scenes=count,
        views=1,
        size=size,
        seed=seed,
        workers=2,
        library=library,
        style=STYLES[style],
    )


def folder_of(name: str, count: int, size: int, seed: int, cache: Path) -> Path:
    """Where `rendered` keeps such scenes."""
    library, style = SCENES[name]
    return cache / f"{library}-{style}-{seed}-{count}-{size}"


def rendered_with_things(
    name: str, count: int, size: int, seed: int, cache: Path
) -> Mapping[str, NDArray[Any]]:
    """`rgb` and `depth` as of `rendered`, and `things`.

    `things` is bool (N, H, W): whether a pixel shows an object that the prompt names.
    """

    def render() -> Mapping[str, NDArray[Any]]:
        library, style = SCENES[name]
        prompts = load_library(library, seed)
        views = [
            render_scene(scene, 1, size, size, labels=True)[0]
            for _, scene in scenes(prompts, seed, range(count), STYLES[style])
        ]
        masks = [view.labels.mask for view in views if view.labels.mask is not None]
        return {
            "rgb": np.stack([view.rgb for view in views]),
            "depth": np.stack([view.depth for view in views]),
            "things": np.stack(masks) > 0,
        }

    folder = folder_of(name, count, size, seed, cache)
    return kept(folder.with_name(f"{folder.name}-things.npz"), render)


def kept(path: Path, make: Callable[[], Mapping[str, NDArray[Any]]]) -> Mapping[str, NDArray[Any]]:
    """Arrays of a file, which are made where it isn't there yet; it is whole or absent."""
    if not path.exists():
        file = io.BytesIO()
        arrays: Any = make()
        np.savez(file, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(path, file.getvalue())
    with np.load(path) as arrays:
        return dict(arrays)


def judge_of(name: str, size: int, cache: Path) -> ObjectJudge:
    """What tells whether things are in images of a set.

    The embedded judge, where it has learnt those; another is trained, where it isn't there yet.
    """
    if name == EMBEDDED_JUDGES[0]:
        return load_judge(find_recogniser(EMBEDDED_JUDGE, None, (JUDGE,)).path)
    return trained_judge(name, size, cache, cache / f"judge-{name}-{size}")


def trained_judge(name: str, size: int, cache: Path, folder: Path) -> ObjectJudge:
    """A judge of a set, which learns from scenes of its own, whatever a model was trained on."""
    scenes = rendered(name, _JUDGE_SCENES, size, _JUDGE_SEED, cache)
    return train_judge(scenes, folder)
