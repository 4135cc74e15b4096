"""What a training starts from: parts of a FLUX.2 pipeline, or a Modality Forcing model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import AutoModel, AutoTokenizer

from mfsynth.errors import MfsynthError
from mfsynth.models.codecs import DepthCodec, LatentCodec
from mfsynth.models.locations import CARD, Layout, download, find_model, pipeline_index
from mfsynth.models.released.flux2 import from_flux2
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.config import PretrainedConfig, TransformerConfig


@dataclass(frozen=True, slots=True)
class InitialModel:
    """A Modality Forcing model that training goes on from, in diffusers' layout.

    Attributes:
        path: Its folder.
        index: Its `model_index.json`.
    """

    path: Path
    index: Mapping[str, Any]

    @classmethod
    def find(cls, name: str) -> InitialModel:
        """Find it by name: `embedded`, a folder, or a hub id.

        Raises:
            MfsynthError: There is no such model, or it is in another layout.
        """
        try:
            folder = find_model(name)
            if folder.layout is Layout.RELEASED:
                raise MfsynthError(
                    f"{name} is in the released layout; convert it with `mfsynth model convert`, "
                    "and name the folder that it writes"
                )
            return cls(folder.path, pipeline_index(folder))
        except MfsynthError as error:
            raise MfsynthError(f"initial: {error}") from error

    def transformer(
        self, expected: Mapping[str, Any], dtype: torch.dtype
    ) -> ModalityForcingTransformer2DModel:
        """Load the transformer.

        Args:
            expected: Configuration that it must have.
            dtype: Of its weights; those of the depth head stay in float32.

        Raises:
            MfsynthError: It has other sizes.
        """
        found = ModalityForcingTransformer2DModel.load_config(self.path, subfolder="transformer")
        _check_sizes(found, expected, self.path / "transformer")
        return ModalityForcingTransformer2DModel.from_pretrained(
            self.path, subfolder="transformer", torch_dtype=dtype
        )

    def text_components(self, sizes: TransformerConfig) -> tuple[Any, Any]:
        """Load the text encoder of a small model, in float32, and its tokenizer.

        Raises:
            MfsynthError: They, or the RGB tokens that they go with, have other sizes.
        """
        given = (sizes.text_length, sizes.text_layers, sizes.rgb_bands)
        layers, bands = self.index["text_encoder_layers"], self.index["rgb_bands"]
        has = (self.index["max_text_length"], len(layers), bands and tuple(bands))
        if given != has:
            raise MfsynthError(
                f"initial: {self.path} has transformer.text_length, text_layers and rgb_bands "
                f"{has}, not the {given} of the configuration; change either"
            )
        text_encoder = AutoModel.from_pretrained(self.path / "text_encoder", dtype=torch.float32)
        return text_encoder, AutoTokenizer.from_pretrained(self.path / "tokenizer")

    def depth_codec(self, patch: int) -> DepthCodec:
        """Between depth maps and its depth tokens."""
        return DepthCodec(patch, self.index["depth_mean"], self.index["depth_std"])


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
        raise MfsynthError(
            f"pretrained.id: {pretrained.id!r} is neither a folder nor a hub repository that can "
            "be reached; accept its licence on the hub and log in, or name a folder with its files"
        ) from error


def load_frozen_components(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Text encoder, tokenizer and autoencoder of a FLUX.2 pipeline.

    Raises:
        MfsynthError: It is none.
    """
    try:
        text_encoder = AutoModel.from_pretrained(folder / "text_encoder", dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        vae = AutoencoderKLFlux2.from_pretrained(folder, subfolder="vae", torch_dtype=dtype)
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
    try:
        base = Flux2Transformer2DModel.from_pretrained(
            folder, subfolder="transformer", torch_dtype=dtype
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_flux2(folder, error) from error
    joint = from_flux2(
        base, depth_patch=sizes.patch, num_depth_decoder_layers=sizes.depth_decoder_layers
    )
    _check_sizes(joint.config, expected, folder / "transformer")
    return joint


def check_fit(
    sizes: TransformerConfig, states: tuple[int, ...], text_encoder: Any, vae: Any, folder: Path
) -> None:
    """Check that a configuration has the sizes of the frozen parts from a folder.

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


def _not_flux2(folder: Path, error: Exception) -> MfsynthError:
    reason = " ".join(str(error).split())
    return MfsynthError(f"pretrained.id: {folder} is not a FLUX.2 pipeline ({reason})")


def _check_sizes(found: Mapping[str, Any], expected: Mapping[str, Any], where: Path) -> None:
    for key, value in expected.items():
        if not key.startswith("_") and _plain(found[key]) != _plain(value):
            raise MfsynthError(
                f"{where}: its {key} is {found[key]}, not the {value} of the configuration's "
                "transformer; change either"
            )


def _plain(value: Any) -> Any:
    """Tuples come back from a file as lists."""
    return list(value) if isinstance(value, tuple) else value
