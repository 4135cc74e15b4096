"""The models of a FLUX.2 pipeline that a training starts from, or uses frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import AutoModel, AutoTokenizer

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import CARD, download
from mfsynth.models.released.flux2 import from_flux2
from mfsynth.models.token_codecs import LatentCodec
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.models.weights import require_weights
from mfsynth.training.config import PretrainedConfig, TransformerConfig


def flux2_folder(pretrained: PretrainedConfig) -> Path:
    """Find a FLUX.2 pipeline, or fetch what is used of it.

    Raises:
        MfsynthError: It can't be had.
    """
    folder = Path(pretrained.id).expanduser()
    if folder.is_dir():
        return folder
    wanted = ["text_encoder/*", "tokenizer/*", "vae/*", CARD]
    if pretrained.transformer:
        wanted.append("transformer/*")
    try:
        return download(pretrained.id, pretrained.revision, wanted)
    except MfsynthError as error:
        raise MfsynthError(f"pretrained.id: {error}") from error


def load_frozen_components(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Text encoder, tokenizer and autoencoder of a FLUX.2 pipeline.

    Args:
        folder: Of the pipeline.
        dtype: Of the text encoder. The autoencoder is in float32, as in the released code and in
            the pipeline that is made.

    Raises:
        MfsynthError: It is none.
    """
    _require_weights(AutoModel, folder / "text_encoder")
    _require_weights(AutoencoderKLFlux2, folder / "vae")
    try:
        text_encoder = AutoModel.from_pretrained(folder / "text_encoder", dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        vae = AutoencoderKLFlux2.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise _not_flux2(folder, error) from error
    for part in (text_encoder, vae):
        part.requires_grad_(False).eval()
    return text_encoder, tokenizer, vae


def load_image_model(
    folder: Path, sizes: TransformerConfig, expected: Mapping[str, Any], dtype: torch.dtype
) -> ModalityForcingTransformer2DModel:
    """The transformer of a FLUX.2 pipeline, with depth modules added.

    Args:
        folder: Of the pipeline.
        sizes: Of the depth modules.
        expected: Configuration that the joint transformer must have.
        dtype: Of the weights.

    Raises:
        MfsynthError: It is none, or has other sizes.
    """
    _require_weights(Flux2Transformer2DModel, folder / "transformer")
    try:
        base = Flux2Transformer2DModel.from_pretrained(
            folder, subfolder="transformer", torch_dtype=dtype
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_flux2(folder, error) from error
    joint = from_flux2(
        base,
        depth_patch=sizes.patch,
        num_depth_decoder_layers=sizes.depth_decoder_layers,
        depth_head=sizes.depth_head,
    )
    check_sizes(joint.config, expected, folder / "transformer")
    return joint


def check_fit(
    sizes: TransformerConfig, states: tuple[int, ...], text_encoder: Any, vae: Any, folder: Path
) -> None:
    """Check that a configuration has the sizes of the frozen models from a folder.

    Raises:
        MfsynthError: It has others.
    """
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


def check_sizes(found: Mapping[str, Any], expected: Mapping[str, Any], where: Path) -> None:
    """Check that a transformer's configuration is the expected one.

    Args:
        found: As diffusers keeps it.
        expected: Likewise.
        where: The transformer is, for the message.

    Raises:
        MfsynthError: It has other sizes; names the first.
    """
    for key, value in expected.items():
        if not key.startswith("_") and _plain(found[key]) != _plain(value):
            raise MfsynthError(
                f"{where}: its {key} is {found[key]}, not the {value} of the configuration's "
                "transformer; change either"
            )


def _require_weights(kind: type, folder: Path) -> None:
    try:
        require_weights(kind, folder)
    except MfsynthError as error:
        raise MfsynthError(f"pretrained.id: {error}") from error


def _not_flux2(folder: Path, error: Exception) -> MfsynthError:
    reason = " ".join(str(error).split())
    return MfsynthError(f"pretrained.id: {folder} is not a FLUX.2 pipeline ({reason})")


def _plain(value: Any) -> Any:
    """Tuples come back from a file as lists."""
    return list(value) if isinstance(value, tuple) else value
