"""Tabletop scenes in MuJoCo: RGB, metric z-depth, intrinsics and captions, headless.

A scene is drawn from a prompt of the tabletop library (`sample_scene`), settled by physics and
rendered from several cameras (`render_scene`); `render_dataset` fills a folder that training maps
into memory (`CachedScenes`).
"""

from __future__ import annotations

from mfsynth.simulation.cache import CachedScenes, CacheSettings, render_dataset
from mfsynth.simulation.rendering import SceneRenderer, render_scene
from mfsynth.simulation.scene import TabletopScene
from mfsynth.simulation.scene_sampling import sample_scene, scenes
from mfsynth.simulation.styles import STYLES, SceneStyle

__all__ = [
    "STYLES",
    "CacheSettings",
    "CachedScenes",
    "SceneRenderer",
    "SceneStyle",
    "TabletopScene",
    "render_dataset",
    "render_scene",
    "sample_scene",
    "scenes",
]
