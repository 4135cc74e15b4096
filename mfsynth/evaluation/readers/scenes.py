"""Rendered scenes of the simulator, everywhere with metric ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfsynth.evaluation.frames import EvaluationSet, Frame
from mfsynth.evaluation.protocols import PLAIN
from mfsynth.simulation import CachedScenes


@dataclass(frozen=True, slots=True)
class SceneFrames:
    """Implements `Frames`.

    Attributes:
        folder: Where the scenes are, for messages.
        scenes: Their images, mapped into memory.
    """

    folder: str
    scenes: CachedScenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Frame:
        return Frame(
            f"{self.folder}: image {index}",
            np.array(self.scenes.rgb[index]),
            np.array(self.scenes.depth[index]),
        )


def open_scenes(folder: str) -> EvaluationSet:
    """Open what `mfsynth.simulation.render_dataset` wrote.

    Raises:
        MfsynthError: The folder holds no rendered scenes, or rendering hasn't finished.
    """
    scenes = CachedScenes.open(folder)
    settings = scenes.settings
    name = f"{settings.library} scenes, seed {settings.seed}"
    return EvaluationSet(name, PLAIN, SceneFrames(folder, scenes))
