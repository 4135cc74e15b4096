"""The models that a training needs, built from its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from torch import nn
from transformers import AutoModel, AutoTokenizer

from mfsynth.errors import MfsynthError
from mfsynth.models.codecs import DepthCodec, LatentCodec, RGBCodec
from mfsynth.models.flux2 import from_flux2
from mfsynth.models.lapped import LappedCodec
from mfsynth.models.layouts import download
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.config import LoraConfig, PretrainedConfig, TrainConfig, TransformerConfig
from mfsynth.training.embedded import build_text_encoder, build_tokenizer, text_encoder_layers
from mfsynth.training.joint import JointModel

# Centre and spread of the contracted depth of most scenes.
DEPTH_MEAN, DEPTH_STD = 1.0, 0.4

_ADAPTED = ("transformer_blocks.", "single_transformer_blocks.")


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A training's models, on the CPU until it places them.

    Attributes:
        model: what is trained.
        text_encoder: part of `model`, or frozen.
        tokenizer: the text encoder's.
        text_layers: its hidden states that are used.
        text_length: text tokens, padding included.
        vae: the frozen autoencoder; None where RGB tokens are a fixed transform of pixels.
        rgb_codec: between images and RGB tokens.
        depth_codec: between depth maps and depth tokens.
    """

    model: JointModel
    text_encoder: Any
    tokenizer: Any
    text_layers: tuple[int, ...]
    text_length: int
    vae: Any
    rgb_codec: RGBCodec
    depth_codec: DepthCodec

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
            height=config.size,
            width=config.size,
            rgb_bands=config.transformer.rgb_bands,
        )


def build_parts(config: TrainConfig, captions: Iterable[str]) -> Parts:
    """Build everything, with random weights or pretrained ones.

    Args:
        config: of the training.
        captions: all of them; a text encoder that is trained knows their words.

    Raises:
        MfsynthError: `pretrained.id` can't be had, or is not a FLUX.2 pipeline of these sizes.
    """
    sizes = config.transformer
    depth_codec = DepthCodec(sizes.patch, DEPTH_MEAN, DEPTH_STD)
    if config.pretrained is None:
        assert sizes.rgb_bands is not None
        tokenizer = build_tokenizer(captions)
        text_encoder = build_text_encoder(sizes, len(tokenizer))
        layers = text_encoder_layers(sizes)
        transformer = build_transformer(sizes, depth_mask=config.optimiser.invalid_depth == "noise")
        return Parts(
            JointModel(transformer, text_encoder, layers),
            text_encoder,
            tokenizer,
            layers,
            sizes.text_length,
            None,
            LappedCodec(sizes.patch, sizes.rgb_bands),
            depth_codec,
        )
    # Frozen weights are read as they are computed with.
    bfloat16 = config.optimiser.precision == "bfloat16"
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    folder = _pretrained_folder(config.pretrained)
    text_encoder, tokenizer, vae = _frozen_parts(folder, dtype)
    if config.from_image_model:
        transformer = _from_image_model(folder, sizes, dtype)
    else:
        transformer = build_transformer(sizes, depth_mask=config.optimiser.invalid_depth == "noise")
    _check_fit(sizes, config.pretrained.text_states, text_encoder, vae, folder)
    choose_trained(transformer, config.lora)
    return Parts(
        JointModel(transformer),
        text_encoder,
        tokenizer,
        config.pretrained.text_states,
        sizes.text_length,
        vae,
        LatentCodec(vae),
        depth_codec,
    )


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
    )
    transformer.depth_proj_out.weight.data.zero_()
    return transformer


def rgb_channels(sizes: TransformerConfig) -> int:
    """Channels of an RGB token."""
    if sizes.rgb_bands is None:
        return sizes.latent_channels
    return LappedCodec(sizes.patch, sizes.rgb_bands).channels


def choose_trained(transformer: ModalityForcingTransformer2DModel, lora: LoraConfig | None) -> None:
    """Set which weights are trained, those in float32: all, or adapters and the depth modules.

    The adapters are on the linear layers of text and RGB, so that with them off and depth tokens
    left out, the model is the one that it came from.
    """
    if lora is not None:
        import peft

        targets = [
            name
            for name, module in transformer.named_modules()
            if isinstance(module, nn.Linear) and name.startswith(_ADAPTED) and "depth" not in name
        ]
        transformer.add_adapter(
            peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets)
        )
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(lora is None or "lora_" in name or "depth" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _pretrained_folder(pretrained: PretrainedConfig) -> Path:
    folder = Path(pretrained.id).expanduser()
    if folder.is_dir():
        return folder
    wanted = ["text_encoder/*", "tokenizer/*", "vae/*"]
    if pretrained.transformer:
        wanted.append("transformer/*")
    try:
        return download(pretrained.id, pretrained.revision, wanted)
    except MfsynthError as error:
        raise MfsynthError(
            f"pretrained.id: {pretrained.id!r} is neither a folder nor a hub repository that can "
            "be reached; accept its licence on the hub and log in, or name a folder with its files"
        ) from error


def _frozen_parts(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    try:
        text_encoder = AutoModel.from_pretrained(folder / "text_encoder", dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        vae = AutoencoderKLFlux2.from_pretrained(folder, subfolder="vae", torch_dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise _not_flux2(folder, error) from error
    for part in (text_encoder, vae):
        part.requires_grad_(False).eval()
    return text_encoder, tokenizer, vae


def _from_image_model(
    folder: Path, sizes: TransformerConfig, dtype: torch.dtype
) -> ModalityForcingTransformer2DModel:
    try:
        base = Flux2Transformer2DModel.from_pretrained(
            folder, subfolder="transformer", torch_dtype=dtype
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_flux2(folder, error) from error
    joint = from_flux2(
        base, depth_patch=sizes.patch, num_depth_decoder_layers=sizes.depth_decoder_layers
    )
    with torch.device("meta"):
        expected = build_transformer(sizes).config
    for key, value in expected.items():
        if not key.startswith("_") and joint.config[key] != value:
            raise MfsynthError(
                f"{folder / 'transformer'}: its {key} is {joint.config[key]}, not the {value} of "
                "the configuration's transformer; change either"
            )
    return joint


def _check_fit(
    sizes: TransformerConfig, states: tuple[int, ...], text_encoder: Any, vae: Any, folder: Path
) -> None:
    codec = LatentCodec(vae)
    channels = vae.config.latent_channels * vae.config.patch_size[0] * vae.config.patch_size[1]
    found = {
        "transformer.text_channels": (sizes.text_channels, text_encoder.config.hidden_size),
        "transformer.latent_channels": (sizes.latent_channels, channels),
        "transformer.patch": (sizes.patch, codec.patch),
    }
    for key, (given, has) in found.items():
        if given != has:
            raise MfsynthError(f"{key} is {given}, but {folder} has {has}; change either")
    if max(states) > text_encoder.config.num_hidden_layers:
        raise MfsynthError(
            f"pretrained.text_states: {folder} has hidden states up to "
            f"{text_encoder.config.num_hidden_layers}, not {max(states)}"
        )


def _not_flux2(folder: Path, error: Exception) -> MfsynthError:
    reason = " ".join(str(error).split())
    return MfsynthError(f"pretrained.id: {folder} is not a FLUX.2 pipeline ({reason})")
