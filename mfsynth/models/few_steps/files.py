"""Few-step weights on disk: one file of low-rank adapters, as diffusers and PEFT have them.

Nothing here imports torch before weights are read: a driver looks few-step weights up with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from mfsynth.config.base import Count, Fraction, Index, Items, NonEmpty, Pair, Settings
from mfsynth.config.presets import SAMPLER_PRESETS
from mfsynth.errors import MfsynthError
from mfsynth.models.locations import ModelFolder, download

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "pytorch_lora_weights.safetensors"
"""The name that diffusers gives a file of adapters."""

UNUSED_IN_FEW_STEPS = ("guidance_interval", "log2_alpha", "depth_step_share")
"""Settings of the mode `joint` that few-step weights do without: their levels are their own."""

_OURS, _DIFFUSERS = "mfsynth_few_steps", "lora_adapter_metadata"
_PREFIX, _A = "transformer.", ".lora_A.weight"


class FewSteps(Settings):
    """What few-step weights are of.

    Attributes:
        steps: Forwards of RGB.
        levels: RGB's noise level before each of them, from 1 on, and the level above 0 at which the
            last takes the clean image as it is.
        points: Levels of a segment at which a forward says the clean image.
        rank: Of the adapters.
        alpha: Their scale is alpha / rank.
        guidance: Scale of the guidance that is distilled in.
        guidance_interval: Noise levels inside of which it acted.
        teacher: The model's name.
        teacher_digest: See `mfsynth.models.few_steps.student.weights_digest`.
        iterations: Steps of training.
        prompts: The library or file of prompts that they were trained on.
        licence: Of the weights: the teacher's.
    """

    steps: Count
    levels: Items[Fraction]
    points: Count
    rank: Count
    alpha: Count
    guidance: Annotated[float, Field(ge=0)]
    guidance_interval: Pair[Fraction]
    teacher: NonEmpty
    teacher_digest: NonEmpty
    iterations: Index
    prompts: NonEmpty
    licence: NonEmpty

    def check(
        self,
        *,
        steps: int,
        guidance: tuple[float, float | None],
        refine_steps: int,
        refine_start: float,
        depth_start: float,
        unused: Mapping[str, object],
    ) -> None:
        """Check that they can make pairs with such a sampler.

        Args:
            steps: Of RGB.
            guidance: Scales on RGB, and on depth where it differs.
            refine_steps: Of depth.
            refine_start: Level that they begin at.
            depth_start: Level of depth above which its tokens are left out of RGB's steps.
            unused: Other settings of `joint`, by name, which make no difference to few steps.

        Raises:
            MfsynthError: They can't; says what to set.
        """
        if steps != self.steps:
            raise MfsynthError(
                f"sampler.steps: the few-step weights were distilled to {self.steps}, and are no "
                f"good in {steps}; set it to {self.steps}, or leave model.few_steps out"
            )
        if any(scale not in (1, None) for scale in guidance):
            raise MfsynthError(
                f"sampler.guidance: the few-step weights have guidance of {self.guidance:g} in "
                "them; set it and depth_guidance to 1"
            )
        if refine_steps < 1 or refine_start != 1:
            raise MfsynthError(
                "sampler.refine_steps: with few-step weights all depth is made after the image, "
                "from noise; set it and refine_start to 1"
            )
        if depth_start != 0:
            raise MfsynthError(
                f"sampler.depth_start: {depth_start:g}, but few-step weights make images without "
                "depth tokens; set it to 0"
            )
        for name, value in unused.items():
            if value != (default := SAMPLER_PRESETS["distilled"][name]):
                raise MfsynthError(
                    f"sampler.{name}: {value}, but few-step weights have steps of their own, which "
                    f"it doesn't change; leave it at {default}"
                )


def find_few_steps(
    model: ModelFolder,
    name: str,
    key: str = "model.few_steps",
    otherwise: str = "set it to null, and sampler.preset to another one",
) -> Path:
    """Find the file of few-step weights: in a folder of the model's, or in any folder.

    Args:
        model: That they are beside.
        name: Of the folder.
        key: The setting that gives the name.
        otherwise: What else to do about it.

    Raises:
        MfsynthError: There is none.
    """
    for folder in (model.path / name, Path(name).expanduser()):
        if (folder / WEIGHTS).is_file():
            return folder / WEIGHTS
    if model.commit is not None:
        fetched = download(model.name, model.commit, [f"{name}/{WEIGHTS}"]) / name / WEIGHTS
        if fetched.is_file():
            return fetched
    raise MfsynthError(
        f"{key}: there is no {WEIGHTS} in {name}, neither in the folder of {model.name} "
        f"nor elsewhere; name the folder that `mfsynth distill` wrote, or {otherwise}"
    )


def read_few_steps(path: Path) -> FewSteps:
    """What a file of few-step weights is of.

    Raises:
        MfsynthError: It is damaged, or of something else.
    """
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if _OURS not in metadata:
        raise MfsynthError(
            f"model.few_steps: {path} holds adapters, but none that `mfsynth distill` wrote; fuse "
            "others into the model"
        )
    try:
        return FewSteps.model_validate_json(metadata[_OURS])
    except ValidationError as error:
        raise _damaged(path, error.errors()[0]["msg"]) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of few-step weights.

    Raises:
        MfsynthError: It is damaged.
    """
    import torch
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise _damaged(path, f"{name} holds values that are not finite")
    return weights


def write_few_steps(folder: Path, few_steps: FewSteps, weights: Mapping[str, Tensor]) -> None:
    """Write a file of few-step weights into a folder, in bfloat16.

    Args:
        folder: That is there.
        few_steps: What they are of.
        weights: As `mfsynth.models.few_steps.student.student_weights` names them.
    """
    import torch
    from safetensors.torch import save_file

    adapted = {name.removesuffix(_A) for name in weights if name.endswith(_A)}
    # PEFT's configuration, under the names that diffusers gives it.
    adapters = {
        f"{_PREFIX}r": few_steps.rank,
        f"{_PREFIX}lora_alpha": few_steps.alpha,
        f"{_PREFIX}target_modules": sorted(name.removeprefix(_PREFIX) for name in adapted),
    }
    metadata = {
        "format": "pt",
        _OURS: few_steps.model_dump_json(),
        _DIFFUSERS: json.dumps(adapters),
    }
    tensors = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in weights.items()
    }
    save_file(tensors, folder / WEIGHTS, metadata)


def _damaged(path: Path, reason: object) -> MfsynthError:
    text = " ".join(str(reason).split())
    return MfsynthError(f"model.few_steps: {path} is damaged ({text}); fetch or distil it again")
