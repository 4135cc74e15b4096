"""Text-to-image pipelines of diffusers, of which `two_models` makes pairs: what their files say.

Nothing here imports torch: a driver looks a model up with it.
"""

from __future__ import annotations

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models.locations import (
    INDEX,
    PIPELINE_CLASS,
    Layout,
    ModelFolder,
    find_model,
    read_json,
)


def find_image_pipeline(model: ModelConfig) -> ModelFolder:
    """Find a pipeline's small files.

    Raises:
        MfsynthError: There is no such pipeline, or it is none of diffusers' own.
    """
    folder = find_model(model.id, model.revision, weights=False)
    name = class_name(folder) if folder.layout is Layout.DIFFUSERS else PIPELINE_CLASS
    if name == PIPELINE_CLASS:
        raise MfsynthError(
            f"{model.id} makes images and depth by itself; leave model.kind out, and name it in "
            "model.id"
        )
    return folder


def class_name(folder: ModelFolder) -> str:
    """Of a folder's pipeline.

    Raises:
        MfsynthError: It is none of diffusers' own: programs of others aren't run.
    """
    name = read_json(folder.path / INDEX).get("_class_name")
    if not isinstance(name, str) or not name.isidentifier():
        raise MfsynthError(
            f"{folder.path / INDEX}: names a program of its own ({name!r:.80}), which is not run; "
            "take a pipeline of diffusers"
        )
    return name
