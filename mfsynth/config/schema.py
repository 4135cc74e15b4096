"""The configuration of a run, as everything in mfsynth reads it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from mfsynth.config.base import (
    Count,
    Fraction,
    NonEmpty,
    Pair,
    Settings,
    Unset,
    require_both_sides,
    require_rising,
)
from mfsynth.config.cameras import CameraConfig, SensorConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.config.presets import DEFAULT_PRESET, SAMPLER_PRESETS


def _auto_or_count(value: Any) -> Any:
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value != "auto" and not count:
        raise ValueError(f"must be auto or an integer of at least 1, not {value!r}")
    return value


AutoOrCount = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_count)]


_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)")


def _auto_or_seconds(value: Any) -> Any:
    if value == "auto":
        return value
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2]]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value < float("inf"):
        return float(value)
    raise ValueError(f"must be auto, seconds, or a time such as 30m or 4h, not {value!r}")


AutoOrSeconds = Annotated[float | Literal["auto"], BeforeValidator(_auto_or_seconds)]


def _factor_or_estimator(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 < value < float("inf"):
        return float(value)
    if value in ("estimator", "source", None):
        return value
    raise ValueError(f"must be estimator, source, or a number of metres above 0, not {value!r}")


FactorOrEstimator = Annotated[
    float | Literal["estimator", "source"], BeforeValidator(_factor_or_estimator)
]

# On one machine somebody is near, and a command that failed says so the same evening; what fills a
# disk or holds a share up is over by then. A cluster works at night, and people are asleep.
LOCAL_PATIENCE_S = 30 * 60.0
CLUSTER_PATIENCE_S = 4 * 3600.0


class TargetConfig(Settings):
    """When a run is finished.

    Attributes:
        pairs: After this many accepted pairs.
        candidates: After this many candidates.
        all: After all candidates of the run's source.
    """

    pairs: Count | None = None
    candidates: Count | None = None
    all: Unset[Literal[True]] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> TargetConfig:
        if [self.pairs, self.candidates, self.all].count(None) != 2:
            raise ValueError("give exactly one of pairs, candidates and all")
        return self


class PromptsConfig(Settings):
    """Where prompts come from: a library, or a file of prompts.

    Attributes:
        library: The name of a library in `prompts/`, or a path or URL of one.
        file: A text, JSONL, CSV or Parquet file, a path or a URL.
        column: The column or key of `file` that holds the prompts (not for text files).
        allow_unknown: Whether prompts with words that the model doesn't know, or longer than what
            it reads, are made all the same; unset, a run with such prompts does not begin.
    """

    library: NonEmpty | None = None
    file: NonEmpty | None = None
    column: NonEmpty = "prompt"
    allow_unknown: Unset[bool] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> PromptsConfig:
        if (self.library is None) == (self.file is None):
            raise ValueError("give exactly one of library and file")
        return self


EMBEDDED_MODEL = "embedded"


class ModelConfig(Settings):
    """Which model, and in what precision.

    Attributes:
        id: `embedded`, a folder, or a hub id.
        revision: The revision of a hub id; None for its newest.
        dtype: The type of weights and activations.
        quantization: `fp8` for 8-bit floats in the transformer's body, on a GPU that has them.
        few_steps: Folder of few-step weights, the model's own or any that `mfsynth distill` wrote;
            `sampler.preset: distilled` goes with it. None for none.
        kind: `two_models` for an image by a text-to-image pipeline of diffusers, which `image`
            names in place of `id`, and then its depth by the run's estimator. None for a model that
            makes both.
    """

    id: NonEmpty = EMBEDDED_MODEL
    revision: NonEmpty | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantization: Literal["none", "fp8"] = "none"
    few_steps: NonEmpty | None = None
    kind: Unset[Literal["two_models"]] = None

    @model_validator(mode="before")
    @classmethod
    def _image_is_what_has_the_id(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("kind") != "two_models":
            return given
        if "image" not in given:
            if given.get("id", EMBEDDED_MODEL) == EMBEDDED_MODEL:
                raise ValueError(
                    "two_models makes images by a text-to-image pipeline of diffusers: set image "
                    "to its folder or hub id"
                )
            return given
        return {**{k: v for k, v in given.items() if k != "image"}, "id": given["image"]}

    @model_validator(mode="after")
    def _two_models_are_as_they_are(self) -> ModelConfig:
        if self.kind is not None and (self.few_steps is not None or self.quantization != "none"):
            raise ValueError("few_steps and quantization are for joint models; leave them out")
        return self

    @model_validator(mode="after")
    def _adapters_are_not_quantized(self) -> ModelConfig:
        if self.few_steps is not None and self.quantization != "none":
            raise ValueError(
                "few_steps has adapters on layers that quantization would turn into 8-bit ones; "
                "leave either out"
            )
        return self


_JOINT_ONLY = (
    *("log2_alpha", "depth_step_share", "depth_start"),
    *("refine_steps", "refine_start"),
)


class SamplerConfig(Settings):
    """How the model samples. What is not given comes from the preset.

    Attributes:
        preset: `reference` (as the released model's demo), `balanced`, `fast`, `image_then_depth`,
            or `distilled` for a model with few-step weights; see `mfsynth.config.presets`.
        mode: What is made of what: `joint` (RGB and depth), `i2d`, `d2i`.
        steps: Denoising steps.
        guidance: Scale of classifier-free guidance on RGB; 1 is none.
        depth_guidance: The same on depth.
        guidance_interval: Lowest and highest noise level at which guidance acts.
        log2_alpha: Binary logarithm of the shift between the RGB and the depth schedule.
        depth_step_share: How far steps are spaced for depth rather than for RGB.
        depth_start: Noise level of depth above which its tokens are left out; 0 leaves depth to
            the second pass alone.
        refine_steps: Steps of a second pass over depth, on the finished image.
        refine_start: Noise level that the second pass begins at.
        height: Of the images, in pixels; None, with `width`, for the model's own size.
        width: Of the images, in pixels.
        tile_overlap: Of mode `i2d`: images of more pixels than `height` and `width` are seen whole
            and in tiles of that size, which share this much of their sides; unset, only whole.
    """

    preset: Literal["reference", "balanced", "fast", "image_then_depth", "distilled"] = (
        DEFAULT_PRESET
    )
    mode: Literal["joint", "i2d", "d2i"] = "joint"
    steps: Count
    guidance: Annotated[float, Field(ge=0)]
    depth_guidance: Annotated[float, Field(ge=0)]
    guidance_interval: Pair[Fraction]
    log2_alpha: float
    depth_step_share: Fraction
    depth_start: Fraction
    refine_steps: Annotated[int, Field(ge=0)]
    refine_start: Annotated[float, Field(gt=0, le=1)]
    height: Annotated[int, Field(ge=16)] | None = None
    width: Annotated[int, Field(ge=16)] | None = None
    tile_overlap: Unset[Annotated[float, Field(ge=0.1, le=0.5)]] = None

    @property
    def keeps_joint_depth(self) -> bool:
        """Whether depth is what came about with the image, and not made of the finished image."""
        return self.mode == "joint" and not (self.refine_steps and self.refine_start == 1)

    def pipeline_arguments(self) -> dict[str, Any]:
        """What a roll-out takes of it, by the names of `ModalityForcingPipeline`'s arguments.

        The pipeline is in `mfsynth.models.pipeline`.
        """
        names = {
            "steps": "num_inference_steps",
            "guidance": "guidance_scale",
            "depth_guidance": "depth_guidance_scale",
        }
        values = self.model_dump(exclude={"preset", "mode", "tile_overlap"})
        if self.mode != "joint":
            values = {name: value for name, value in values.items() if name not in _JOINT_ONLY}
        if self.mode == "d2i":
            del values["depth_guidance"]
        return {names.get(name, name): value for name, value in values.items()}

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = SAMPLER_PRESETS.get(given.get("preset", DEFAULT_PRESET), {})
        # A guidance that is set by hand is meant for both modalities.
        same = {"depth_guidance": given["guidance"]} if "guidance" in given else {}
        return {**preset, **same, **given}

    @model_validator(mode="after")
    def _rising_interval(self) -> SamplerConfig:
        require_rising("guidance_interval", self.guidance_interval)
        return self

    @model_validator(mode="after")
    def _depth_from_somewhere(self) -> SamplerConfig:
        if self.depth_start == 0 and self.keeps_joint_depth:
            raise ValueError(
                "depth_start is 0, which leaves depth to the second pass: set refine_steps to 1 "
                "or more and refine_start to 1, or depth_start above 0"
            )
        return self

    @model_validator(mode="after")
    def _nothing_of_another_mode(self) -> SamplerConfig:
        if self.mode != "joint":
            for name in _JOINT_ONLY:
                if getattr(self, name) != SAMPLER_PRESETS[self.preset][name]:
                    raise ValueError(f"{name} is for mode joint, not {self.mode}; leave it out")
        if self.mode != "i2d" and self.tile_overlap is not None:
            raise ValueError(f"tile_overlap is for mode i2d, not {self.mode}; leave it out")
        return self

    @model_validator(mode="after")
    def _both_or_neither(self) -> SamplerConfig:
        require_both_sides(self.height, self.width)
        return self


class RuntimeConfig(Settings):
    """How a run is carried out; nothing here changes what it makes.

    Attributes:
        workers: How many processes generate; `auto` for one a GPU, or one on a CPU machine.
        batch_size: Candidates in a forward pass.
        device: Where the model runs.
        deadline_s: Seconds that a worker may be silent, starting or between two batches, before
            it is killed and its shard tried again.
        max_attempts: Attempts of a shard before its candidates run one by one.
        patience: How long a run waits for what others have to mend: a store that is full or out
            of reach, nodes, a Ray that doesn't start. Seconds, or a time such as `30m` or `4h`;
            `auto` is half an hour on this machine and four hours on a cluster.
        on_event: What is told when the run is stalled, goes on, fails or is finished: a URL to
            which JSON is posted, or a command (not in a file) that has it on its standard input.
            `MFSYNTH_ON_EVENT` is the same. It is a secret, and stored nowhere.
        ray_address: The cluster to join; None to start Ray on this machine.
        attention: Which of diffusers' attention backends; None for torch's own.
        compile: Whether the transformer's blocks are compiled, which slows the first batch; `auto`
            on a GPU, where there are a C++ compiler and Triton.
        offload: `group` keeps the transformer in main memory and brings it over block by block.
    """

    workers: AutoOrCount = "auto"
    batch_size: AutoOrCount = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deadline_s: Annotated[float, Field(gt=0)] = 1800.0
    max_attempts: Count = 3
    patience: AutoOrSeconds = "auto"
    on_event: SecretStr | None = None
    ray_address: NonEmpty | None = None
    attention: NonEmpty | None = None
    compile: bool | Literal["auto"] = "auto"
    offload: Literal["none", "group"] = "none"

    @property
    def patience_s(self) -> float:
        """`patience` in seconds."""
        if self.patience != "auto":
            return self.patience
        return LOCAL_PATIENCE_S if self.ray_address is None else CLUSTER_PATIENCE_S


def checks_by_name(given: Any) -> Any:
    """Settings of checks as they are validated: a text for a calibration is its path."""
    if isinstance(given, dict) and isinstance(given.get("calibration"), str):
        return {**given, "calibration": {"path": given["calibration"]}}
    return given


class RunConfig(Settings):
    """A run. Semantic settings decide its samples; `target`, `output`, `runtime` do not.

    Attributes:
        name: Goes into keys and file names.
        seed: Of all random choices.
        target: When the run is finished.
        shard_size: Candidates in a shard.
        prompts: Where prompts come from; of mode `d2i` unset for the source's own texts.
        source: Images (mode `i2d`) or depth maps (`d2i`) that candidates begin with: a kind of
            `mfsynth.sources` and what it takes; `mfsynth.runs.settings` validates it.
        copies: How many candidates each item of the source makes, one after the other; 1 unless
            given.
        model: Which model.
        sampler: How it samples.
        camera: Which camera its images are taken to be of; unset, they have none but the source's.
        estimator: A depth estimator that looks at what was made, for checks and for
            `metres_per_unit`; None for none.
        metres_per_unit: What makes the model's relative depth metres: a factor for all pairs, or
            one of each: `estimator`, by which its depth agrees with a metric estimator's, or
            `source`, with the metric depth that the source has beside its image. None for relative
            depth.
        sensor: A depth sensor, of whose measurement of the pair's metric depth each pair has a map
            beside it; None for none.
        completion: `guided` where depth of images is to go through the metric depth that the source
            has beside them, and be led by it elsewhere; unset, that gives the scale alone.
        checks: Settings of each check by its name; one that is not named, or null, is not run.
            `mfsynth.checks` has the checks, `mfsynth.runs.settings` validates what they are given.
            `calibration` is a file of `mfsynth calibrate`.
        keep_rejects: What is kept of the pixels of rejected pairs: `none`; `thumbnails`, small
            pictures; `all`, so that `mfsynth refilter` can bring them back; None for what
            `keep_reject_thumbnails` says.
        keep_reject_thumbnails: The earlier name of it: `thumbnails`, or if false `none`.
        output: A folder or URL.
        runtime: How the run is carried out.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
    seed: Annotated[int, Field(ge=0)] = 0
    target: TargetConfig
    shard_size: Count = 64
    prompts: Unset[PromptsConfig] = None
    source: Unset[dict[str, Any]] = None
    copies: Unset[Count] = None
    model: ModelConfig = ModelConfig()
    sampler: SamplerConfig = Field(default_factory=lambda: SamplerConfig.model_validate({}))
    camera: Unset[CameraConfig] = None
    estimator: Unset[DepthEstimatorConfig] = None
    metres_per_unit: Unset[FactorOrEstimator] = None
    sensor: Unset[SensorConfig] = None
    completion: Unset[Literal["guided"]] = None
    checks: Annotated[dict[str, dict[str, Any] | None], BeforeValidator(checks_by_name)] = Field(
        default_factory=dict
    )
    keep_rejects: Literal["none", "thumbnails", "all"] | None = None
    keep_reject_thumbnails: bool = True
    output: NonEmpty
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def rejects_kept(self) -> Literal["none", "thumbnails", "all"]:
        """`keep_rejects`, under whichever name it was given."""
        return self.keep_rejects or ("thumbnails" if self.keep_reject_thumbnails else "none")

    @property
    def _is_metric(self) -> bool:
        # Of two models the estimator says what its depth is.
        return self.metres_per_unit is not None or self.model.kind is not None

    @model_validator(mode="after")
    def _begins_with_what_its_mode_needs(self) -> RunConfig:
        mode = self.sampler.mode
        if mode == "joint":
            if self.prompts is None:
                raise ValueError("prompts: missing; add it")
            for name in ("source", "copies"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for modes i2d and d2i; set sampler.mode")
            if self.metres_per_unit == "source":
                raise ValueError("metres_per_unit: source, and there is none; name another")
            if self.target.all is not None:
                raise ValueError("target.all: prompts have no end; give pairs or candidates")
        elif self.source is None:
            raise ValueError(f"source: missing; sampler.mode {mode} begins with one")
        if mode == "i2d" and self.prompts is not None:
            raise ValueError("prompts: captions of images come with their source; leave it out")
        if self.sensor is not None and self.metres_per_unit == "source":
            raise ValueError("sensor: pairs keep what their source's sensor measured; leave it out")
        if self.sensor is not None and mode != "d2i" and not self._is_metric:
            raise ValueError("sensor: measures metres, and depth is relative; set metres_per_unit")
        if mode == "d2i" and self.metres_per_unit is not None:
            raise ValueError("metres_per_unit: depth is the source's own; leave it out")
        if self.completion is not None and self.metres_per_unit != "source":
            raise ValueError("completion: goes through the source's metres; set metres_per_unit")
        if self.completion is not None and self.sampler.tile_overlap is not None:
            raise ValueError("completion: leads depth of whole images; leave tile_overlap out")
        return self

    @model_validator(mode="after")
    def _one_name(self) -> RunConfig:
        if not self.keep_reject_thumbnails and self.rejects_kept != "none":
            raise ValueError(
                f"keep_rejects is {self.keep_rejects}, and keep_reject_thumbnails, its earlier "
                "name, false; leave the latter out"
            )
        return self
