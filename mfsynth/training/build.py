"""The models that a training needs, built from its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights

from mfsynth.models.few_steps.student import image_layers
from mfsynth.models.lapped_transform import LappedTransformCodec
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.token_codecs import DepthCodec, LatentCodec, RGBCodec
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.config import (
    LoraConfig,
    PretrainedConfig,
    TrainConfig,
    TransformerConfig,
)
from mfsynth.training.initial_model import InitialModel
from mfsynth.training.joint_model import JointModel
from mfsynth.training.pretrained import (
    check_fit,
    flux2_folder,
    load_frozen_components,
    load_image_model,
)
from mfsynth.training.small_text_encoder import (
    build_text_encoder,
    build_tokenizer,
    text_encoder_layers,
)

# Centre and spread of the contracted depth of most scenes.
DEPTH_MEAN, DEPTH_STD = 1.0, 0.4


@dataclass(frozen=True, slots=True, eq=False)
class ModelComponents:
    """A training's models, on the CPU until it places them.

    Attributes:
        model: What is trained.
        text_encoder: Part of `model`, or frozen.
        tokenizer: The text encoder's.
        text_layers: Its hidden states that are used.
        text_length: Text tokens, padding included.
        vae: The frozen autoencoder; None where RGB tokens are a fixed transform of pixels.
        rgb_codec: Between images and RGB tokens.
        depth_codec: Between depth maps and depth tokens.
        initial: The model that it goes on from, if there is one.
    """

    model: JointModel
    text_encoder: Any
    tokenizer: Any
    text_layers: tuple[int, ...]
    text_length: int
    vae: Any
    rgb_codec: RGBCodec
    depth_codec: DepthCodec
    initial: InitialModel | None = None

    @property
    def text_is_trained(self) -> bool:
        """Whether the text encoder is part of the model."""
        return self.model.text_encoder is not None

    def to(self, device: torch.device) -> None:
        """Move all models."""
        for part in (self.model, self.text_encoder, self.vae):
            if part is not None:
                part.to(device)

    def pipeline(self, config: TrainConfig) -> ModalityForcingPipeline:
        """The same models as a pipeline to sample with."""
        index = {} if self.initial is None else self.initial.index
        radius = config.transformer.depth_median_radius
        # Images alone are learnt without depth's noise level.
        kept = config.optimiser.image_only_share == 0
        never_alone = self.initial is None and config.optimiser.image_steps == 0
        return ModalityForcingPipeline(
            transformer=self.model.transformer,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            vae=self.vae,
            text_encoder_layers=self.text_layers,
            max_text_length=self.text_length,
            rgb_shift_mu=config.noise.rgb_mu,
            depth_shift_mu=config.noise.depth_mu,
            depth_mean=self.depth_codec.mean,
            depth_std=self.depth_codec.std,
            depth_normalisation=self.depth_codec.normalisation,
            height=config.size,
            width=config.size,
            rgb_bands=config.transformer.rgb_bands,
            depth_median_radius=index.get("depth_median_radius", 0) if radius is None else radius,
            mixes_without_depth=kept and index.get("mixes_without_depth", never_alone),
        )


def build_components(config: TrainConfig, captions: Iterable[str]) -> ModelComponents:
    """Build everything, with random weights or pretrained ones.

    Args:
        config: Of the training.
        captions: All of them; a text encoder that is trained knows their words.

    Raises:
        MfsynthError: `initial` can't be had or has other sizes; `pretrained.id` can't be had, or
            is not a FLUX.2 pipeline of these sizes.
    """
    if config.pretrained is None:
        return _small_components(config, captions)
    return _flux2_components(config, config.pretrained)


def _flux2_components(config: TrainConfig, pretrained: PretrainedConfig) -> ModelComponents:
    """A transformer beside the frozen text encoder and autoencoder of a FLUX.2 pipeline."""
    sizes, normalisation = config.transformer, config.optimiser.depth_normalisation
    # Frozen weights are read as they are computed with.
    bfloat16 = config.optimiser.precision == "bfloat16"
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    folder = flux2_folder(pretrained)
    text_encoder, tokenizer, vae = load_frozen_components(folder, dtype)
    depth_codec = DepthCodec(sizes.patch, DEPTH_MEAN, DEPTH_STD, normalisation)
    initial = None if config.initial is None else InitialModel.find(config.initial)
    if initial is not None:
        transformer = initial.transformer(_expected(config), dtype)
        initial.check_frozen(sizes, pretrained.text_states, text_encoder, vae)
        depth_codec = initial.depth_codec(sizes.patch, normalisation)
    elif pretrained.transformer:
        transformer = load_image_model(folder, sizes, _expected(config), dtype)
    else:
        transformer = new_transformer(config)
    check_fit(sizes, pretrained.text_states, text_encoder, vae, folder)
    choose_trained(transformer, config.lora)
    return ModelComponents(
        model=JointModel(transformer),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_layers=pretrained.text_states,
        text_length=sizes.text_length,
        vae=vae,
        rgb_codec=LatentCodec(vae),
        depth_codec=depth_codec,
        initial=initial,
    )


def _small_components(config: TrainConfig, captions: Iterable[str]) -> ModelComponents:
    """A model that is trained as a whole: new, or gone on from."""
    sizes, normalisation = config.transformer, config.optimiser.depth_normalisation
    assert sizes.rgb_bands is not None
    initial = None if config.initial is None else InitialModel.find(config.initial)
    if initial is None:
        tokenizer = build_tokenizer(captions)
        text_encoder = build_text_encoder(sizes, len(tokenizer))
        transformer = new_transformer(config)
        depth_codec = DepthCodec(sizes.patch, DEPTH_MEAN, DEPTH_STD, normalisation)
    else:
        transformer = initial.transformer(_expected(config), torch.float32)
        text_encoder, tokenizer = initial.text_components(sizes)
        depth_codec = initial.depth_codec(sizes.patch, normalisation)
    layers = text_encoder_layers(sizes)
    return ModelComponents(
        model=JointModel(transformer, text_encoder, layers),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_layers=layers,
        text_length=sizes.text_length,
        vae=None,
        rgb_codec=LappedTransformCodec(sizes.patch, sizes.rgb_bands),
        depth_codec=depth_codec,
        initial=initial,
    )


def _expected(config: TrainConfig) -> Mapping[str, Any]:
    """The sizes that a transformer must have, as diffusers keeps them."""
    with init_empty_weights():
        return new_transformer(config).config


def new_transformer(config: TrainConfig) -> ModalityForcingTransformer2DModel:
    """Build the transformer of a configuration, random but for its depth head."""
    mask = config.optimiser.invalid_depth == "noise"
    return build_transformer(config.transformer, depth_mask=mask)


def build_transformer(
    sizes: TransformerConfig, *, depth_mask: bool = False
) -> ModalityForcingTransformer2DModel:
    """Build the joint transformer, random but for its depth head.

    RGB in the coefficients of a transform is predicted as the clean signal: of a velocity, most is
    noise, which a small hidden size would have to carry through. Latents are few beside the hidden
    size, and predicted as a velocity.
    """
    transformer = ModalityForcingTransformer2DModel(
        in_channels=rgb_channels(sizes),
        depth_channels=sizes.patch**2,
        num_layers=sizes.layers,
        num_single_layers=sizes.single_layers,
        num_depth_decoder_layers=sizes.depth_decoder_layers,
        attention_head_dim=sizes.head_dim,
        num_attention_heads=sizes.heads,
        joint_attention_dim=sizes.text_layers * sizes.text_channels,
        timestep_channels=sizes.timestep_channels,
        axes_dims_rope=sizes.rope_axes,
        rope_theta=sizes.rope_theta,
        rgb_prediction="sample" if sizes.rgb_bands else "velocity",
        depth_mask=depth_mask,
        depth_head=sizes.depth_head,
    )
    transformer.depth_proj_out.weight.data.zero_()
    return transformer


def rgb_channels(sizes: TransformerConfig) -> int:
    """Channels of an RGB token."""
    if sizes.rgb_bands is None:
        return sizes.latent_channels
    return LappedTransformCodec(sizes.patch, sizes.rgb_bands).channels


def choose_trained(transformer: ModalityForcingTransformer2DModel, lora: LoraConfig | None) -> None:
    """Set which weights are trained, those in float32: all, or adapters and the depth modules."""
    if lora is not None:
        import peft

        transformer.add_adapter(
            peft.LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, target_modules=image_layers(transformer)
            )
        )
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(lora is None or "lora_" in name or "depth" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
