"""An image by any text-to-image pipeline of diffusers, then its depth by an estimator.

What one would take in place of a joint model. To a run it is a pipeline as any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from mfsynth.config import ModelConfig, RuntimeConfig
from mfsynth.config.cameras import CameraConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthEstimate, DepthKind, EstimateKind
from mfsynth.models.estimators.base import Estimator
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.models.image_pipelines import class_name, find_image_pipeline
from mfsynth.models.locations import INDEX, asking_the_hub, read_json
from mfsynth.models.outputs import require_finite
from mfsynth.models.weights import load_whole, require_components, without_bars

_LIBRARY = "transformers"
# Where the state of torch's generator on a CPU has its 624 words, each in eight bytes.
_WORDS_AT, _WORDS = 24, 624
# Of outputs of diffusers' pipelines: whether a safety checker made an image black.
_FLAGS = "nsfw_content_detected", "nsfw_detected"
# Of the noise of images; others are those of docs/reference/format.md.
_STREAM = 3

_KINDS = {
    EstimateKind.METRIC_Z: DepthKind.ESTIMATED_METRIC_Z,
    EstimateKind.SCALE_INVARIANT_Z: DepthKind.SCALE_INVARIANT_Z,
}


@dataclass(frozen=True, slots=True, eq=False)
class EstimatedPairs:
    """Pairs whose depth was estimated from their images.

    Attributes:
        rgb: uint8 (B, H, W, 3).
        depth: float32 (B, H, W), 0 = invalid.
        depth_kinds: B of what the numbers in `depth` are.
        estimates: All that the estimator says of each image.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    depth_kinds: Sequence[DepthKind]
    estimates: Sequence[DepthEstimate]


class TwoModels:
    """A text-to-image pipeline and an estimator, as one pipeline.

    Args:
        image: The pipeline, on its device.
        estimator: Gives z-depth, not disparity.
        camera: That the images are taken to be of; None if unknown.
    """

    def __init__(
        self, image: Any, estimator: Estimator, camera: CameraConfig | None = None
    ) -> None:
        self._image = image
        self._estimator = estimator
        self._camera = camera
        self._takes = frozenset(inspect.signature(image.__call__).parameters)

    def encode_prompts(self, prompts: Sequence[str], batch_size: int) -> Sequence[str]:
        """The prompts as they are: how they are encoded is the pipeline's own affair."""
        return [*prompts]

    def __call__(
        self,
        *,
        prompt_embeds: Sequence[str],
        seeds: Sequence[int],
        num_inference_steps: int,
        guidance_scale: float,
        height: int,
        width: int,
        **joint: Any,
    ) -> EstimatedPairs:
        """Make a batch. An image depends on its own prompt and on all bits of its seed.

        Args:
            prompt_embeds: B prompts, from `encode_prompts`.
            seeds: B seeds.
            num_inference_steps: Of the text-to-image pipeline.
            guidance_scale: Of it, if it takes one.
            height: Rows of the images.
            width: Columns.
            **joint: What only a joint model knows of; not used.

        Raises:
            MfsynthError: An image has values that are not finite, or another size, or the
                pipeline's own safety checker took it away.
        """
        given = {
            "prompt": [*prompt_embeds],
            "generator": [generator_of(seed) for seed in seeds],
            "height": height,
            "width": width,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "output_type": "np",
        }
        made = self._image(**{k: v for k, v in given.items() if k in self._takes})
        _require_shown(made, seeds)
        images = np.asarray(made.images, np.float32)
        require_finite([bool(np.isfinite(one).all()) for one in images], seeds)
        rgb = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
        if (made_size := rgb.shape[1:3]) != (height, width):
            # The camera that the estimator is told of would be of another image.
            raise MfsynthError(
                f"sampler: {type(self._image).__name__} made {made_size[1]}x{made_size[0]} pixels "
                f"of {width}x{height}; set sampler.height={made_size[0]} and "
                f"sampler.width={made_size[1]}, or another size that it can make"
            )
        camera = None if self._camera is None else self._camera.intrinsics(height, width)
        estimates = self._estimator(rgb, [camera] * len(rgb))
        depth = np.stack([np.where(e.valid, e.values, np.float32(0)) for e in estimates])
        return EstimatedPairs(rgb, depth, [_KINDS[e.kind] for e in estimates], estimates)

    def require_own_noise(self, height: int, width: int) -> None:
        """See by one image of two steps that only its seed decides it.

        Raises:
            MfsynthError: The pipeline draws noise that isn't the samples' own, or makes images of
                another size.
        """
        before = _noise_of_all(self._image.device)
        self(
            prompt_embeds=["a cup on a table"],
            seeds=[0],
            num_inference_steps=2,
            guidance_scale=1.0,
            height=height,
            width=width,
        )
        if not torch.equal(before, _noise_of_all(self._image.device)):
            scheduler = type(getattr(self._image, "scheduler", None)).__name__
            raise MfsynthError(
                f"model.image: {type(self._image).__name__} with {scheduler} draws noise that no "
                "seed decides, so no image could be made again; take another scheduler"
            )


def load_two_models(
    model: ModelConfig,
    estimator: DepthEstimatorConfig,
    device: str,
    runtime: RuntimeConfig,
    camera: CameraConfig | None = None,
) -> TwoModels:
    """Load both on a device.

    Args:
        model: The text-to-image pipeline.
        estimator: The estimator.
        device: `cpu` or `cuda`.
        runtime: How the run is carried out: as diffusers does it by itself.
        camera: See `TwoModels`.

    Raises:
        MfsynthError: There is no such pipeline or estimator, its files are not what they should be,
            it makes no images of text, or the runtime is for joint models.
    """
    joint_only = {
        "attention": runtime.attention is not None,
        "compile": runtime.compile is True,
        "offload": runtime.offload != "none",
    }
    if asked := [name for name, is_set in joint_only.items() if is_set]:
        raise MfsynthError(f"runtime.{asked[0]}: is for joint models; leave it out")
    try:
        image = _load_image_pipeline(model).to(device)
    except MfsynthError as error:
        raise MfsynthError(f"model.image: {error}") from error
    image.set_progress_bar_config(disable=True)
    return TwoModels(image, open_estimator(estimator, device), camera)


def _load_image_pipeline(model: ModelConfig) -> Any:
    found = find_image_pipeline(model)
    name = class_name(found)
    kind: Any = getattr(diffusers, name, None)
    if not _is_pipeline(kind):
        raise MfsynthError(f"{model.id} is a {name}, which diffusers {diffusers.__version__} lacks")
    parameters = inspect.signature(kind.__call__).parameters
    wanted = {"prompt", "generator", "height", "width", "num_inference_steps", "output_type"}
    needs = [p.name for p in parameters.values() if p.default is p.empty and p.name != "self"]
    needs = [p for p in needs if p not in ("prompt", "kwargs", "args")]
    if lacking := sorted(wanted - parameters.keys()) or needs:
        raise MfsynthError(
            f"{model.id} is a {name}, which makes no images of text alone: {lacking[0]} is "
            f"{'needed' if needs else 'not taken'}"
        )
    folder = found.path
    if found.commit is not None:
        with asking_the_hub(model.id):
            folder = Path(kind.download(model.id, revision=found.commit, use_safetensors=True))
    dtype = getattr(torch, model.dtype)
    components = {}
    for part, entry in read_json(folder / INDEX).items():
        if isinstance(entry, list) and entry[:1] == [_LIBRARY]:
            of = getattr(transformers, str(entry[1]), None)
            if isinstance(of, type) and issubclass(of, transformers.PreTrainedModel):
                components[part] = load_whole(of, folder / part, dtype)
    require_components(folder, components)
    try:
        with without_bars():
            return kind.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True, **components
            )
    # Of a folder that is none diffusers raises whatever it trips over.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MfsynthError(f"{folder}: makes no {name} ({reason}); fetch it again") from error


def _require_shown(made: Any, seeds: Sequence[int]) -> None:
    """Refuse black images in place of those that a pipeline won't show."""
    said = [flags for name in _FLAGS if (flags := getattr(made, name, None)) is not None]
    flags = said[0] if said else [False] * len(seeds)
    if flagged := [seed for seed, is_flagged in zip(seeds, flags, strict=True) if is_flagged]:
        raise MfsynthError(
            f"the pipeline's safety checker made {len(flagged)} of {len(seeds)} images black, the "
            f"first of seed {flagged[0]}; if it does so with many, change the prompts"
        )


def _is_pipeline(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, DiffusionPipeline)


def _noise_of_all(device: torch.device) -> torch.Tensor:
    """State of the generator that everything in the process shares."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.random.get_rng_state()


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU that all 64 bits of a seed decide, of which torch takes 32.

    Its words are those of `numpy.random.Philox(key=[seed, 3])`.
    """
    words = np.random.Philox(key=np.array([seed, _STREAM], np.uint64)).random_raw(_WORDS)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state().numpy().copy()
    low = (words & np.uint64(0xFFFFFFFF)).view(np.uint8)
    state[_WORDS_AT : _WORDS_AT + 8 * _WORDS] = low
    generator.set_state(torch.from_numpy(state))
    return generator
