"""What a model makes of candidates, one function a mode.

A mode takes the model, the sampler's settings, candidates and their encoded prompts, and says what
kind of depth came out. What it needs besides the prompts (images for `i2d`, depth maps for `d2i`)
is in the candidates' items, each of any size: the model sees it letterboxed, and what it makes of
it is brought back to its grid. `MODES` has them by their names in a configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.validity import valid_mask
from mfsynth.config import RunConfig
from mfsynth.config.schema import SamplerConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthEstimate, DepthKind, EstimateKind
from mfsynth.geometry.completion import binned
from mfsynth.geometry.filling import fill_nearest
from mfsynth.geometry.resizing import resize_depth, resize_image
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.geometry.tiling import blend_tiles, tile_windows
from mfsynth.prompts import derive_seed
from mfsynth.runs.plan import Candidate
from mfsynth.sources.base import Item

if TYPE_CHECKING:
    from mfsynth.models.images import Letterbox

_Array = TypeVar("_Array", RgbImage, DepthMap)
# As `mfsynth.models.inputs`: with less it is not the dense depth that models are trained on.
_LEAST_GIVEN_DEPTH = 0.5
# Pixels of what the model sees of a whole image over which its depth is taken, not that of tiles:
# over fewer, tiles see what it doesn't; over more, they lack what is around them.
_COARSE = 4.0


class Pairs(Protocol):
    """What a model gives: `rgb` uint8 (B, H, W, 3), `depth` float32 (B, H, W), 0 = invalid."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


class Pipeline(Protocol):
    """The part of `mfsynth.models.pipeline.ModalityForcingPipeline` that a run needs."""

    def encode_prompts(self, prompts: Sequence[str], batch_size: int) -> Any:
        """Encode prompts, so many at a time; rows of the result go into `prompt_embeds`."""

    def __call__(
        self,
        *,
        prompt_embeds: Any,
        seeds: Sequence[int],
        mode: str,
        image: NDArray[np.uint8] | None = None,
        depth: NDArray[np.float32] | None = None,
        num_inference_steps: int,
        guidance_scale: float,
        **sampling: Any,
    ) -> Pairs:
        """Sample a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pairs that were made together.

    Attributes:
        candidates: B of them.
        rgb: B images uint8 (H, W, 3); in one array unless they begin with a source.
        depth: B maps float32 (H, W), 0 = invalid, of their images' sizes; likewise.
        depth_kinds: B of what the numbers in `depth` mean.
        joint_depth: What was made with the images, where `depth` took its place, float32
            (B, H, W); None where there is one depth.
        estimates: What is said of the images' depth beside `depth`, by the run's estimator, or of
            images for given depth by the model itself; None where nothing is.
    """

    candidates: Sequence[Candidate]
    rgb: NDArray[np.uint8] | Sequence[RgbImage]
    depth: NDArray[np.float32] | Sequence[DepthMap]
    depth_kinds: Sequence[DepthKind]
    joint_depth: NDArray[np.float32] | None = None
    estimates: Sequence[DepthEstimate] | None = None

    def rows(self, chosen: Sequence[int]) -> Batch:
        """Only some of the pairs, by their numbers."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if [*chosen] == [*range(len(self.candidates))]:
            return self
        return replace(self, **{k: _chosen(v, chosen) for k, v in values.items() if v is not None})


def _chosen(values: Any, rows: Sequence[int]) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


Mode = Callable[[Pipeline, SamplerConfig, Sequence[Candidate], Any], Batch]


def joint(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """Image and depth, both out of noise."""
    made = pipeline(
        prompt_embeds=prompt_embeds,
        seeds=[candidate.seed for candidate in candidates],
        mode="joint",
        **sampler.pipeline_arguments(),
    )
    kinds = [DepthKind.SCALE_INVARIANT_Z] * len(candidates)
    return Batch(candidates, made.rgb, made.depth, kinds)


def images_to_depth(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """Depth of the items' images; the sampler has the size in which the model sees them."""
    images = [given(candidate.item.rgb) for candidate in candidates]
    seeds = [candidate.seed for candidate in candidates]
    arguments = sampler.pipeline_arguments()
    depth = _depth_of(pipeline, images, prompt_embeds, seeds, arguments)
    if sampler.tile_overlap is not None:
        depth = _with_tiles(
            pipeline, images, depth, prompt_embeds, seeds, arguments, sampler.tile_overlap
        )
    return Batch(candidates, images, depth, [DepthKind.SCALE_INVARIANT_Z] * len(candidates))


def images_to_guided_depth(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """Depth of the items' images, led by what a sensor measured beside them."""
    # torch comes with it, which a driver doesn't need.
    from mfsynth.models.sensor_guidance import SensorGuidance

    images = [given(candidate.item.rgb) for candidate in candidates]
    seeds = [candidate.seed for candidate in candidates]
    arguments = sampler.pipeline_arguments()
    framed = np.zeros((len(images), arguments["height"], arguments["width"]), np.float32)
    for frame, candidate, image in zip(framed, candidates, images, strict=True):
        if (sensor := metres_beside(candidate.item)) is not None:
            inside = frame[_box(image.shape, arguments).window]
            inside[:] = binned(sensor, *inside.shape)
    led = {**arguments, "callback_on_step_end": SensorGuidance(framed, seeds)}
    depth = _depth_of(pipeline, images, prompt_embeds, seeds, led)
    return Batch(candidates, images, depth, [DepthKind.SCALE_INVARIANT_Z] * len(candidates))


def metres_beside(item: Item) -> DepthMap | None:
    """What a sensor measured beside an image, in metres; None where none did."""
    return item.depth if item.facts.unit == "metres" else None


def depth_to_images(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """Images for the items' depth, which stays as it is; the model sees its holes filled."""
    maps = [given(candidate.item.depth) for candidate in candidates]
    arguments = sampler.pipeline_arguments()
    boxes = [_box(one.shape, arguments) for one in maps]
    framed = [
        box.frame_depth(fill_nearest(one, one > 0)[None])[0]
        for box, one in zip(boxes, maps, strict=True)
    ]
    made = pipeline(
        prompt_embeds=prompt_embeds,
        seeds=[candidate.seed for candidate in candidates],
        mode="d2i",
        depth=np.stack([fill_nearest(one, one > 0) for one in framed]),
        **arguments,
    )
    images = [
        resize_image(rgb[box.window], *box.size) for box, rgb in zip(boxes, made.rgb, strict=True)
    ]
    return Batch(candidates, images, maps, [_kind_of(c.item) for c in candidates])


MODES: Final[Mapping[str, Mode]] = {
    "joint": joint,
    "i2d": images_to_depth,
    "d2i": depth_to_images,
}


def mode_of(config: RunConfig) -> Mode:
    """The function that makes a run's pairs."""
    if config.model.kind is not None:
        return image_then_depth
    if config.completion is not None:
        return images_to_guided_depth
    return MODES[config.sampler.mode]


def _kind_of(item: Item) -> DepthKind:
    """What a unit of a source's depth is."""
    by_unit = DepthKind.METRIC_Z if item.facts.unit == "metres" else DepthKind.SCALE_INVARIANT_Z
    return item.origin.depth or by_unit


def require_given(mode: str, item: Item, sampler: SamplerConfig) -> None:
    """Refuse an item of a source that its mode can make nothing of.

    Raises:
        MfsynthError: It has no image or no depth, mostly holes, or quite other proportions than
            what the model sees.
    """
    if mode == "i2d" and item.rgb is None:
        raise MfsynthError(f"{item.name}: has no image; leave it out of the source")
    if mode == "d2i":
        if item.depth is None:
            raise MfsynthError(f"{item.name}: has no depth; leave it out of the source")
        if (share := np.count_nonzero(item.depth) / item.depth.size) < _LEAST_GIVEN_DEPTH:
            raise MfsynthError(
                f"{item.name}: depth in {share:.0%} of the pixels, and images are made for "
                f"{_LEAST_GIVEN_DEPTH:.0%} at least; leave it out of the source"
            )
    found = item.rgb if mode == "i2d" else item.depth
    assert found is not None  # seen above
    _box(found.shape, sampler.pipeline_arguments(), item.name)


def given(array: _Array | None) -> _Array:
    """What an item has that was asked for it before."""
    assert array is not None
    return array


def _box(shape: Sequence[int], sampling: Mapping[str, Any], name: str = "item") -> Letterbox:
    """Where an image of a size lies in what the model sees, which is `height` and `width`."""
    # torch comes with it, which a driver doesn't need.
    from mfsynth.models.images import Letterbox

    frame = sampling["height"], sampling["width"]
    return Letterbox.fit((shape[0], shape[1]), frame, name)


def _depth_of(
    pipeline: Pipeline,
    images: Sequence[RgbImage],
    prompt_embeds: Any,
    seeds: Sequence[int],
    arguments: Mapping[str, Any],
) -> list[DepthMap]:
    """Depth of images of any sizes, on their grids; what the model sees has one size."""
    boxes = [_box(image.shape, arguments) for image in images]
    framed = [box.frame_images(one[None])[0] for box, one in zip(boxes, images, strict=True)]
    made = pipeline(
        prompt_embeds=prompt_embeds, seeds=seeds, mode="i2d", image=np.stack(framed), **arguments
    )
    return [
        resize_depth(depth[box.window], *box.size)
        for box, depth in zip(boxes, made.depth, strict=True)
    ]


def _with_tiles(
    pipeline: Pipeline,
    images: Sequence[RgbImage],
    whole: Sequence[DepthMap],
    prompt_embeds: Any,
    seeds: Sequence[int],
    arguments: Mapping[str, Any],
    overlap: float,
) -> list[DepthMap]:
    """Depth of images seen whole, finer by that of their tiles where they have several."""
    size = len(images)
    frame = arguments["height"], arguments["width"]
    windows = [tile_windows((image.shape[0], image.shape[1]), frame, overlap) for image in images]
    todo = [
        (row, number)
        for row, parts in enumerate(windows)
        if len(parts) > 1
        for number in range(len(parts))
    ]
    made: list[DepthMap] = []
    for at in range(0, len(todo), size):
        part = todo[at : at + size]
        # A compiled model takes batches of one size.
        part += part[-1:] * (size - len(part))
        made += _depth_of(
            pipeline,
            [images[row][windows[row][number]] for row, number in part],
            prompt_embeds[[row for row, _ in part]],
            [derive_seed(seeds[row], "tile", number) for row, number in part],
            arguments,
        )
    tiles: list[list[DepthMap]] = [[] for _ in images]
    for (row, _), depth in zip(todo, made, strict=False):
        tiles[row].append(depth)
    return [
        blend_tiles(depth, parts, own, overlap, _coarse(depth.shape, frame)) if own else depth
        for depth, parts, own in zip(whole, windows, tiles, strict=True)
    ]


def _coarse(size: Sequence[int], frame: Sequence[int]) -> float:
    """Pixels of an image below which its tiles show more of it than the whole in a frame does."""
    return _COARSE * max(side / seen for side, seen in zip(size, frame, strict=True))


def with_own_estimates(
    pipeline: Pipeline,
    batch: Batch,
    prompt_embeds: Any,
    steps: int,
    sampler: SamplerConfig,
) -> Batch:
    """A batch with what the model says of the depth of the finished images, as estimates.

    Args:
        pipeline: The model that made the batch.
        batch: Images for given depth.
        prompt_embeds: Of their candidates.
        steps: Denoising steps; without guidance.
        sampler: Says in what size the model sees them.
    """
    seeds = [derive_seed(candidate.seed, "i2d") for candidate in batch.candidates]
    arguments = {
        "num_inference_steps": steps,
        "guidance_scale": 1.0,
        "height": sampler.height,
        "width": sampler.width,
    }
    maps = _depth_of(pipeline, [*batch.rgb], prompt_embeds, seeds, arguments)
    kind = EstimateKind.SCALE_INVARIANT_Z
    return replace(batch, estimates=[DepthEstimate(one, valid_mask(one), kind) for one in maps])


def image_then_depth(
    pipeline: Pipeline,
    sampler: SamplerConfig,
    candidates: Sequence[Candidate],
    prompt_embeds: Any,
) -> Batch:
    """An image out of noise, then its depth by an estimator; of `mfsynth.models.two_models`."""
    made: Any = pipeline(
        prompt_embeds=prompt_embeds,
        seeds=[candidate.seed for candidate in candidates],
        mode="joint",
        **sampler.pipeline_arguments(),
    )
    return Batch(candidates, made.rgb, made.depth, made.depth_kinds, estimates=made.estimates)


def with_own_depth(pipeline: Pipeline, batch: Batch, prompt_embeds: Any, steps: int) -> Batch:
    """A batch whose depth is what the model gives for the finished images.

    Args:
        pipeline: The model that made the batch.
        batch: Its pairs, with depth that was made with the images.
        prompt_embeds: Of their candidates.
        steps: Denoising steps; without guidance.
    """
    rgb = np.asarray(batch.rgb)
    again = pipeline(
        prompt_embeds=prompt_embeds,
        # Noise of its own: two depths from the same noise agree too easily.
        seeds=[derive_seed(candidate.seed, "i2d") for candidate in batch.candidates],
        mode="i2d",
        image=rgb,
        height=rgb.shape[1],
        width=rgb.shape[2],
        num_inference_steps=steps,
        guidance_scale=1.0,
    )
    return replace(batch, depth=again.depth, joint_depth=np.asarray(batch.depth))
