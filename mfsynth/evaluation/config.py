"""Typed configuration of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config import ModelConfig, load_settings
from mfsynth.config.base import (
    Count,
    Index,
    Items,
    LocalPath,
    NonEmpty,
    Settings,
    require_both_sides,
)
from mfsynth.evaluation.protocols import Alignment
from mfsynth.sources.runs import RunSettings
from mfsynth.sources.simulated import CachedScenesSettings, RenderSettings


class PublishedSet(Settings):
    """A published data set, extracted.

    Attributes:
        kind: Which.
        path: Its folder.
        split: The list of images that its protocol names; None for all in the folder.
    """

    kind: Literal["nyu_v2", "eth3d", "scannet", "diode"]
    path: NonEmpty
    split: NonEmpty | None = None


class PublishedKitti(Settings):
    """KITTI with Eigen's test split.

    Attributes:
        path: The raw recordings: DATE/DRIVE/image_02/data/N.png.
        depth_path: The annotated depth: DRIVE/proj_depth/groundtruth/image_02/N.png, or the folder
            of its train/ and val/; None for the same folder.
        split: The list of images; the recordings alone don't say which are Eigen's.
    """

    kind: Literal["kitti_eigen"]
    path: NonEmpty
    depth_path: NonEmpty | None = None
    split: NonEmpty


class EvaluatedRender(RenderSettings):
    """Simulator scenes to render into a folder.

    Attributes:
        size: Rows and columns.
        seed: Of prompts and scenes; scenes that a model was not trained on have one of their own.
    """

    size: Count
    seed: Index


class EvaluatedScenes(CachedScenesSettings):
    """Simulator images on disk; see `mfsynth.sources.simulated.CachedScenesSettings`."""

    render: EvaluatedRender | None = None


class EvaluatedRun(RunSettings):
    """The pairs of an mfsynth run.

    Attributes:
        limit: How many pairs at most, the first ones; None for all.
    """

    limit: Count | None = None


SetSettings = Annotated[
    PublishedSet | PublishedKitti | EvaluatedScenes | EvaluatedRun,
    Field(discriminator="kind"),
]


class EvaluateConfig(Settings):
    """Everything that decides the results of an evaluation.

    Attributes:
        model: Which model, in what precision.
        steps: Euler steps of image-to-depth.
        seed: Of the first image's noise; image i has seed + i.
        height: Of the images that the model sees; None, with `width`, for the model's own size.
        width: Likewise.
        batch_size: Images in a forward pass; as many are in memory, in their own size.
        data: The sets.
        alignments: How predictions are fitted to the ground truth; results for each.
        output: Folder of the results.
    """

    model: ModelConfig = ModelConfig()
    steps: Count
    seed: Index = 0
    height: Count | None = None
    width: Count | None = None
    batch_size: Count
    data: Annotated[Items[SetSettings], Field(min_length=1)]
    alignments: Annotated[Items[Alignment], Field(min_length=1)]
    output: LocalPath

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        require_both_sides(self.height, self.width)
        return self

    @model_validator(mode="after")
    def _depth_of_its_own(self) -> Self:
        if self.model.kind is not None:
            raise ValueError(
                f"model.kind is {self.model.kind}, which has no depth of its own; name a joint "
                "model in model.id"
            )
        return self


def load_evaluate_config(
    name_or_path: str, overrides: Sequence[str] = (), *, output: str | None = None
) -> EvaluateConfig:
    """Load an evaluation: the name of one in configs/evaluate/, a path, or a URL.

    Args:
        name_or_path: See above.
        overrides: Each `"a.b=c"`, `c` in YAML; later ones win.
        output: Replaces `output`.

    Raises:
        MfsynthError: One line that names the file, the key, and what to do.
    """
    given: list[tuple[str, Any]] = [("output", output)] if output is not None else []
    return load_settings(EvaluateConfig, "configs/evaluate", name_or_path, overrides, given)
