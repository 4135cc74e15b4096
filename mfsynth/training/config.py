"""Typed training configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config import load_settings
from mfsynth.config.base import (
    Count,
    Fraction,
    Index,
    Items,
    LocalPath,
    Pair,
    Positive,
    Settings,
    Unset,
)
from mfsynth.models.depth_normalisation import DepthNormalisation
from mfsynth.training.data.part_settings import PartSettings

InvalidDepth = Literal["nearest", "noise", "prediction"]
"""What depth is where there is none; see `mfsynth.training.invalid_depth`."""


class TransformerConfig(Settings):
    """Sizes of the transformer and of the text encoder that feeds it.

    Attributes:
        patch: Pixels along a token's side.
        rgb_bands: Frequencies of luma and of chroma of the lapped transform that RGB tokens hold,
            predicted as the clean signal; None where they are an autoencoder's latents, predicted
            as a velocity.
        latent_channels: Of an RGB token where it is an autoencoder's latents.
        layers: Triple-stream blocks.
        single_layers: Single-stream blocks.
        depth_decoder_layers: Blocks over the depth tokens alone.
        depth_head: "patches" predicts each patch of depth by itself, as the released model;
            "windows" windows of twice the patch that overlap, so that borders show less.
        depth_median_radius: Of the pipeline that comes out; see `ModalityForcingPipeline`. That of
            `initial`, or none, if unset.
        heads: Attention heads.
        head_dim: Channels of a head; the sum of `rope_axes`.
        rope_axes: Rotary channels of time, row, column and sequence.
        rope_theta: Base of the rotary frequencies.
        timestep_channels: Of the sinusoidal embedding of a noise level.
        text_length: Text tokens, padding included.
        text_layers: Hidden states of the text encoder that are concatenated.
        text_channels: Of each of them.
    """

    patch: Count
    rgb_bands: Pair[int] | None = None
    latent_channels: Count = 128
    layers: Count
    single_layers: Count
    depth_decoder_layers: Count
    depth_head: Literal["patches", "windows"] = "patches"
    depth_median_radius: Unset[Count] = None
    heads: Count
    head_dim: Count
    rope_axes: Annotated[tuple[int, int, int, int], Field(strict=False)]
    rope_theta: int = Field(gt=1)
    timestep_channels: Count = 64
    text_length: Count
    text_layers: Count
    text_channels: Count

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.head_dim != sum(self.rope_axes) or any(n < 0 or n % 2 for n in self.rope_axes):
            raise ValueError(
                f"head_dim is the sum of rope_axes, which are even numbers: {self.head_dim} is not "
                f"that of {list(self.rope_axes)}"
            )
        if self.depth_decoder_layers > self.single_layers:
            raise ValueError(
                f"depth_decoder_layers: {self.depth_decoder_layers} blocks can't start as the last "
                f"of {self.single_layers} single_layers; give as many or fewer"
            )
        if self.rgb_bands is not None:
            if min(self.rgb_bands) < 1:
                raise ValueError(f"rgb_bands: {list(self.rgb_bands)}, each must be at least 1")
            if self.patch % 2:
                raise ValueError(
                    f"rgb_bands are of windows that overlap by half a patch, and patch is "
                    f"{self.patch}; use an even one"
                )
            if self.text_channels % 16:
                raise ValueError(f"text_channels: {self.text_channels} is no multiple of 16")
        return self

    @model_validator(mode="after")
    def _windows_are_centred(self) -> Self:
        if self.depth_head == "windows" and self.patch % 2:
            raise ValueError(
                f"depth_head windows reaches half a patch around each, and patch is {self.patch}; "
                "use an even one"
            )
        return self


class PretrainedConfig(Settings):
    """A FLUX.2 pipeline whose text encoder and autoencoder are used, frozen.

    Attributes:
        id: Folder or hub id.
        revision: Of a hub id; None for its newest.
        text_states: Indices into the text encoder's hidden states, from 0.
        transformer: Whether training starts from its text-to-image weights, too.
    """

    id: str
    revision: str | None = None
    text_states: Items[Index] = (9, 18, 27)
    transformer: bool = False


class LoraConfig(Settings):
    """Low-rank adapters on the text-to-image weights, which then stay as they are.

    The depth modules are new, and trained whole.

    Attributes:
        rank: Of every adapter.
        alpha: Their scale is alpha / rank.
    """

    rank: Count
    alpha: Count


class DistillationConfig(Settings):
    """Weights of the self-distillation term where depth is noise, and where it is clean."""

    noisy_depth: float = Field(ge=0)
    clean_depth: float = Field(ge=0)


class LoopConfig(Settings, ABC):
    """How any training goes: batches, rates and checkpoints.

    A step takes `accumulate` batches of `batch_size` samples in every process. Rates warm up at
    the start of each phase, stay, and fall linearly over the last `decay_share` of the last.

    Attributes:
        batch_size: Samples that a process sees at once.
        accumulate: Batches of a step.
        precision: Of the forward, and of Muon's iteration; trained weights stay in float32.
            bfloat16 is faster on GPUs, and on CPUs that have products of it (AMX).
        gradient_checkpointing: Whether blocks are computed again in the backward pass.
        adamw_learning_rate: Of all weights that AdamW moves.
        warmup_steps: Of each phase.
        decay_share: Of the last phase.
        weight_decay: Of all weights.
        ema: Memory of the weights' moving average, which is the model that comes out.
        checkpoint_every: Steps.
    """

    batch_size: Count
    accumulate: Count = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    adamw_learning_rate: Positive
    warmup_steps: int = Field(ge=0)
    decay_share: Fraction
    weight_decay: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    checkpoint_every: Count

    @property
    @abstractmethod
    def phases(self) -> tuple[int, ...]:
        """Steps of each phase."""

    @property
    def total_steps(self) -> int:
        """Of all phases."""
        return sum(self.phases)


class OptimiserConfig(LoopConfig):
    """Two phases: text-to-image first, then image and depth together.

    Attributes:
        image_steps: Of the first phase; 0 where training starts from a text-to-image model.
        joint_steps: Of the second.
        image_only_share: Steps of the second phase without depth.
        sharding: "none" has all of the weights in every process, "fsdp" a part in each.
        muon_learning_rate: Of the matrices inside of blocks, moved by Muon; None for AdamW.
        depth_learning_rate: Of the depth modules, where it differs; with AdamW alone.
        edge_weight: See `depth_loss`.
        i2d_error_limit: Of a depth token's error where the image is given; see `depth_loss`. None
            for the square alone, which is what the paper has.
        distillation: Keeps images near the text-to-image model's; None for not at all.
        text_dropout: Share of samples that see the empty caption.
        depth_normalisation: The mean of a map, filled where it is invalid, that it is divided by.
            The harmonic mean of sparse depth is nearer to that of the whole map. The model keeps
            it: depth that it is given later is divided by the same.
        invalid_depth: What the depth stream sees at pixels without depth.
        complete_depth: Whether sparse depth is a condition of images, too, made dense by what the
            weights' moving average tells from the image; without it, only dense depth is.
        compile: Whether the blocks are compiled for steps of training, which takes a minute or two
            at the start of each phase; a step on a GPU then takes about a third less time.
        workers: Processes that load data ahead, for every process that trains.
    """

    image_steps: int = Field(ge=0)
    joint_steps: Count
    image_only_share: float = Field(ge=0, lt=1)
    sharding: Literal["none", "fsdp"] = "none"
    muon_learning_rate: Positive | None = None
    depth_learning_rate: Positive | None = None
    edge_weight: float = Field(ge=0)
    i2d_error_limit: Unset[Positive] = None
    distillation: DistillationConfig | None = None
    text_dropout: Fraction
    depth_normalisation: DepthNormalisation = "mean"
    invalid_depth: InvalidDepth = "nearest"
    complete_depth: bool = False
    compile: Unset[bool] = None
    workers: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _moves_every_weight_once(self) -> Self:
        if self.muon_learning_rate is None:
            return self
        if self.sharding == "fsdp":
            raise ValueError(
                "Muon needs whole matrices, and with sharding fsdp a process has some of their "
                "rows; leave muon_learning_rate out, and AdamW moves all weights"
            )
        if self.depth_learning_rate is not None:
            raise ValueError(
                "depth_learning_rate is one of AdamW alone; leave it or muon_learning_rate out"
            )
        return self

    @property
    def phases(self) -> tuple[int, ...]:
        """Steps of images alone, and of both."""
        return self.image_steps, self.joint_steps


class NoiseConfig(Settings):
    """How noise levels are drawn.

    Attributes:
        i2d_share: Share of samples whose RGB is clean (t = 0).
        d2i_share: Share of samples whose depth is clean, among those where it may be: see
            `d2i_min_valid`, and `complete_depth` of the optimiser.
        shared_share: Among the others, share whose modalities have the same level but for their
            different means.
        rgb_mu: Mean of the logit of RGB's t.
        depth_mu: Mean of the logit of depth's t. A small depth map of smooth surfaces needs more
            noise than an image: at the same t its own noisy pixels already tell nearly everything,
            and the model would never learn to look at the image.
        depth_low_share: Share of samples whose depth's level is drawn about `depth_low_mu` in
            place of `depth_mu`, among those whose depth has a level of its own. Without them, a
            model with a high `depth_mu` never learns to use what a depth that is nearly done
            tells: its last steps undo the ones before, and edges stay soft.
        depth_low_mu: Mean of the logit of depth's t in those.
        sigma: Standard deviation of all of the logits.
        d2i_min_valid: Share of valid pixels from which on depth may be a condition: a sparse map
            is none, most of it would be made up. With `complete_depth`, any may.
    """

    i2d_share: Fraction = 0.2
    d2i_share: Fraction = 0.2
    shared_share: Fraction = 0.5
    rgb_mu: float = 1.1
    depth_mu: float = 1.1
    depth_low_share: Fraction = 0.0
    depth_low_mu: float = -0.5
    sigma: float = Field(default=1.0, ge=0)
    d2i_min_valid: Fraction = 0.9

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if (given := self.i2d_share + self.d2i_share) > 1:
            raise ValueError(f"i2d_share and d2i_share come to {given:g}; give 1 together at most")
        return self


class SamplesConfig(Settings):
    """What is sampled at every checkpoint, for TensorBoard.

    The images are the training stream's first with depth; the prompts are their captions unless
    given. As long as images alone are learnt, images of the prompts are all that is sampled.

    Attributes:
        prompts: For joint samples.
        images: For depth of given images.
        steps: Of each sampling.
        guidance: Scale of guidance in joint samples, and in images alone.
    """

    prompts: Items[str] = ()
    images: Count = 8
    steps: Count = 20
    guidance: float = Field(default=2.0, ge=1)


class TrainConfig(Settings):
    """Everything that decides a training.

    Attributes:
        name: Of the model.
        seed: Of weights, data and noise.
        size: Rows and columns of the images.
        data: The parts of the training set.
        transformer: Sizes of the model.
        initial: A Modality Forcing model of the same sizes whose weights training goes on from:
            `embedded`, a folder in diffusers' layout, or a hub id.
        pretrained: A FLUX.2 model to start from, or to take frozen parts of; None for a small model
            that is trained as a whole.
        lora: Adapters in place of training the text-to-image weights.
        noise: How noise levels are drawn.
        optimiser: Steps, rates and losses.
        samples: What is sampled at every checkpoint.
        licence: Of the model that comes out, by its short name; left out where training starts from
            another model, whose licence it then has.
        output: Folder of checkpoints and of the finished model.
    """

    name: str
    seed: Index
    size: Count
    data: Annotated[Items[PartSettings], Field(min_length=1)]
    transformer: TransformerConfig
    initial: str | None = None
    pretrained: PretrainedConfig | None = None
    lora: LoraConfig | None = None
    noise: NoiseConfig
    optimiser: OptimiserConfig
    samples: SamplesConfig = SamplesConfig()
    licence: str | None = None
    output: LocalPath

    @property
    def from_image_model(self) -> bool:
        """Whether the text-to-image weights are pretrained ones."""
        return self.pretrained is not None and self.pretrained.transformer

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        sizes, optimiser = self.transformer, self.optimiser
        if (sizes.rgb_bands is None) != (self.pretrained is not None):
            raise ValueError(
                "give either transformer.rgb_bands, for a small model of its own, or pretrained, "
                "for the text encoder and autoencoder of a FLUX.2 model"
            )
        if self.size % sizes.patch:
            raise ValueError(f"size {self.size} is no multiple of transformer.patch {sizes.patch}")
        if self.pretrained is not None and len(self.pretrained.text_states) != sizes.text_layers:
            raise ValueError(
                f"transformer.text_layers is {sizes.text_layers}, but pretrained.text_states names "
                f"{len(self.pretrained.text_states)}"
            )
        if self.from_image_model and optimiser.image_steps:
            raise ValueError(
                "pretrained.transformer is a text-to-image model already; set "
                "optimiser.image_steps to 0"
            )
        if self.initial is not None and (self.from_image_model or optimiser.image_steps):
            raise ValueError(
                "initial is a model of images and depth already; set optimiser.image_steps to 0 "
                "and pretrained.transformer to false"
            )
        starts_trained = self.from_image_model or self.initial is not None
        if self.from_image_model and optimiser.invalid_depth == "noise":
            raise ValueError(
                "optimiser.invalid_depth noise needs a depth mask, which a model from FLUX.2 has "
                "not; use nearest or prediction"
            )
        if self.pretrained is None and optimiser.sharding == "fsdp":
            raise ValueError(
                "optimiser.sharding fsdp is for large models, with the frozen text encoder of "
                "pretrained; set it to none"
            )
        if self.lora is not None and (self.pretrained is None or not starts_trained):
            raise ValueError("lora adapts a pretrained model; set pretrained.transformer to true")
        if self.lora is not None and optimiser.sharding == "fsdp":
            raise ValueError(
                "lora trains few weights, in a precision of their own, which sharding fsdp can't "
                "mix; set optimiser.sharding to none"
            )
        if optimiser.image_steps and all(part.joint_only for part in self.data):
            raise ValueError(
                "every part of data is joint_only, and optimiser.image_steps are taken without "
                "those; take it from one, or set image_steps to 0"
            )
        if optimiser.distillation and not (optimiser.image_steps or starts_trained):
            raise ValueError(
                "optimiser.distillation needs a base model; give optimiser.image_steps, initial or "
                "pretrained.transformer, or leave it out"
            )
        return self


def load_train_config(name_or_path: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Load a training configuration: the name of one in configs/train/, a path, or a URL.

    Raises:
        MfsynthError: One line that names the file, the key, and what to do.
    """
    return load_settings(TrainConfig, "configs/train", name_or_path, overrides)
