"""A Modality Forcing model that a training goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mfsynth.errors import MfsynthError
from mfsynth.models.depth_normalisation import DepthNormalisation
from mfsynth.models.few_steps.student import weights_digest
from mfsynth.models.locations import Layout, find_model, pipeline_index
from mfsynth.models.token_codecs import DepthCodec
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.models.weights import require_weights
from mfsynth.training.config import TransformerConfig
from mfsynth.training.pretrained import check_sizes

_GIVE_ITS = "give the pipeline that it was trained beside as pretrained.id"
# What transformers keeps of how a tokenizer was opened.
_OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path")


@dataclass(frozen=True, slots=True)
class InitialModel:
    """A Modality Forcing model that training goes on from, in diffusers' layout.

    Attributes:
        path: Its folder.
        index: Its `model_index.json`.
    """

    path: Path
    index: Mapping[str, Any]

    @property
    def mixes_without_depth(self) -> bool:
        """Whether its RGB sees depth's noise level where depth tokens are left out."""
        return bool(self.index.get("mixes_without_depth", False))

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
            MfsynthError: It has other sizes, or its weights are not whole.
        """
        folder = self.path / "transformer"
        # The hollow model has what wasn't a setting yet when the model was written.
        hollow = require_weights(ModalityForcingTransformer2DModel, folder)
        check_sizes(hollow.config, expected, folder)
        transformer = ModalityForcingTransformer2DModel.from_pretrained(
            self.path, subfolder="transformer", torch_dtype=dtype
        )
        # Whoever gets the model that comes out of this has no use for folders of this machine.
        transformer.register_to_config(_name_or_path="")
        return transformer

    def check_frozen(
        self, sizes: TransformerConfig, states: tuple[int, ...], text_encoder: Any, vae: Any
    ) -> None:
        """Check that it was trained beside these frozen models of a FLUX.2 pipeline.

        Of the text encoder the sizes are compared, of the autoencoder the weights.

        Raises:
            MfsynthError: It was trained beside others, or in another way.
        """
        given = (sizes.text_length, [*states])
        has = (self.index["max_text_length"], [*self.index["text_encoder_layers"]])
        if given != has:
            raise MfsynthError(
                f"initial: {self.path} has transformer.text_length and pretrained.text_states "
                f"{has}, not the {given} of the configuration; change either"
            )
        own = AutoConfig.from_pretrained(self.path / "text_encoder")
        for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
            if getattr(own, key, None) != getattr(text_encoder.config, key, None):
                raise MfsynthError(f"initial: {self.path} has another text encoder; {_GIVE_ITS}")
        require_weights(AutoencoderKLFlux2, self.path / "vae")
        before = AutoencoderKLFlux2.from_pretrained(self.path, subfolder="vae")
        if weights_digest(before) != weights_digest(vae):
            raise MfsynthError(f"initial: {self.path} has another autoencoder; {_GIVE_ITS}")

    def text_components(self, sizes: TransformerConfig) -> tuple[Any, Any]:
        """Load the text encoder of a small model, in float32, and its tokenizer.

        Raises:
            MfsynthError: They, or the RGB tokens that they go with, have other sizes, or the
                weights are not whole.
        """
        given = (sizes.text_length, sizes.text_layers, sizes.rgb_bands)
        layers, bands = self.index["text_encoder_layers"], self.index["rgb_bands"]
        has = (self.index["max_text_length"], len(layers), bands and tuple(bands))
        if given != has:
            raise MfsynthError(
                f"initial: {self.path} has transformer.text_length, text_layers and rgb_bands "
                f"{has}, not the {given} of the configuration; change either"
            )
        require_weights(AutoModel, self.path / "text_encoder")
        text_encoder = AutoModel.from_pretrained(self.path / "text_encoder", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(self.path / "tokenizer")
        for name in _OF_THIS_MACHINE:
            tokenizer.init_kwargs.pop(name, None)
        return text_encoder, tokenizer

    def depth_codec(self, patch: int, normalisation: DepthNormalisation) -> DepthCodec:
        """Between depth maps and its depth tokens.

        Raises:
            MfsynthError: Its depth is normalised in another way.
        """
        has = self.index.get("depth_normalisation", "mean")
        if normalisation != has:
            raise MfsynthError(
                f"initial: the depth of {self.path} is divided by its {has}, not by its "
                f"{normalisation}; set optimiser.depth_normalisation to {has}"
            )
        return DepthCodec(patch, self.index["depth_mean"], self.index["depth_std"], has)
