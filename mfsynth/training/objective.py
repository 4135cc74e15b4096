"""From a batch of samples to its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mfsynth.models.codecs import patchify, unpatchify
from mfsynth.models.sampling import sample_to_velocity
from mfsynth.models.text import encode_tokens, tokenize
from mfsynth.training.build import ModelComponents
from mfsynth.training.config import OptimiserConfig
from mfsynth.training.data import TrainingBatch
from mfsynth.training.invalid_depth import fill_invalid
from mfsynth.training.joint_model import Prediction, Text, swapped_weights, without_adapters
from mfsynth.training.losses import (
    clean_signal_loss,
    clean_token_loss,
    self_distillation_loss,
    velocity_loss,
)
from mfsynth.training.noise import NoiseRecipe, add_noise, draw_noise_levels, sample_generators

Forward = Callable[..., Prediction]
"""`JointModel.forward`, in whatever it is wrapped in."""


@dataclass(frozen=True, slots=True, eq=False)
class NoisyDepth:
    """Depth tokens on their way into the model.

    Attributes:
        clean: (B, N, p²) what the loss compares with; anything where invalid.
        valid: (B, N, p²) bool.
        seen: (B, N, p²) what is noised: `clean`, with something at invalid pixels.
        noise: (B, N, p²) standard normal.
        t: (B,) noise level.
    """

    clean: Tensor
    valid: Tensor
    seen: Tensor
    noise: Tensor
    t: Tensor

    @property
    def noisy(self) -> Tensor:
        """(B, N, p²), what the model gets."""
        return add_noise(self.seen, self.noise, self.t)


@dataclass(frozen=True, slots=True, eq=False)
class NoisyBatch:
    """A batch with every random choice made, on the device.

    Attributes:
        rgb: (B, N, C) clean tokens.
        rgb_noise: (B, N, C) standard normal.
        t_rgb: (B,) noise level.
        text: Of the captions, some of them dropped.
        depth: None where the model sees no depth tokens.
        grid: (rows, columns) of tokens.
    """

    rgb: Tensor
    rgb_noise: Tensor
    t_rgb: Tensor
    text: Text
    depth: NoisyDepth | None
    grid: tuple[int, int]

    @property
    def noisy_rgb(self) -> Tensor:
        """(B, N, C), what the model gets."""
        return add_noise(self.rgb, self.rgb_noise, self.t_rgb)

    def generated(self) -> dict[str, Tensor]:
        """Of each loss, how many samples it is taken over: those whose stream is generated."""
        if self.depth is None:
            return {"rgb": (self.t_rgb > 0).sum()}
        of_rgb = (self.t_rgb > 0).sum()
        return {"rgb": of_rgb, "depth": (self.depth.t > 0).sum(), "distillation": of_rgb}


class Objective:
    """The losses of Modality Forcing for one set of models.

    Args:
        parts: The models.
        config: Of the losses.
        recipe: Of the noise levels.
        seed: Of noise levels, noise and dropped captions.
        device: Where the models are.
    """

    def __init__(
        self,
        parts: ModelComponents,
        config: OptimiserConfig,
        recipe: NoiseRecipe,
        seed: int,
        device: torch.device,
    ) -> None:
        self._parts = parts
        self._config = config
        if config.complete_depth:
            recipe = recipe.model_copy(update={"d2i_min_valid": 0.0})
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._empty = self._tokenize([""])
        self._predicts_velocity = parts.model.transformer.config.rgb_prediction == "velocity"

    def prepare(
        self, batch: TrainingBatch, numbers: Sequence[int], image_only: bool = False
    ) -> NoisyBatch:
        """Encode a batch and draw its noise.

        Args:
            batch: B samples.
            numbers: Of the B samples in the training stream.
            image_only: Whether depth is left out.
        """
        generators = sample_generators(self._seed, numbers)
        valid_share = (batch.depth > 0).float().mean(dim=(1, 2)) * (not image_only)
        t_rgb, t_depth = draw_noise_levels(valid_share, self._recipe, generators)
        dropped = torch.stack([torch.rand((), generator=one) for one in generators])
        rgb = self.encode_images(batch)
        return NoisyBatch(
            rgb=rgb,
            rgb_noise=_noise(rgb.shape, generators).to(self._device),
            t_rgb=t_rgb.to(self._device),
            text=self.encode_text(batch.captions, dropped < self._config.text_dropout),
            depth=None if image_only else self.noisy_depth(batch, t_depth, generators),
            grid=self.grid(batch),
        )

    def losses(
        self,
        forward: Forward,
        batch: NoisyBatch,
        average: Mapping[str, Tensor],
        base: Mapping[str, Tensor] | None,
    ) -> dict[str, Tensor]:
        """The sum over the batch's samples of each loss.

        Args:
            forward: Of the model, with gradients.
            batch: What it is for.
            average: The moving average of the trained weights, by name.
            base: Weights that make the model the text-to-image model that it is kept near to; None
                where there is none. Adapters are off besides.
        """
        weights = self._config.distillation
        # First: no graph may be waiting while the model has other weights.
        kept = None
        if base is not None and weights is not None and batch.depth is not None:
            kept = self._base_velocity(batch, base)
        if batch.depth is not None and self._config.invalid_depth == "prediction":
            batch = self._filled_by_average(batch, batch.depth, average)
        if batch.depth is not None and self._config.complete_depth:
            batch = self._completed_by_average(batch, batch.depth, average)
        output = self._predict(forward, batch)
        losses = {"rgb": self._rgb_loss(output.rgb, batch)}
        if batch.depth is not None:
            losses["depth"] = self.depth_loss(output, batch)
            if kept is not None and weights is not None:
                losses["distillation"] = self_distillation_loss(
                    self._velocity(output.rgb, batch),
                    kept,
                    batch.t_rgb,
                    batch.depth.t,
                    weights.noisy_depth,
                    weights.clean_depth,
                )
        return {name: loss.sum() for name, loss in losses.items()}

    def encode_images(self, batch: TrainingBatch) -> Tensor:
        """(B, N, C) float32 clean RGB tokens."""
        images = batch.rgb.to(self._device).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            return self._parts.rgb_codec.encode(images).float()

    def encode_text(self, captions: Sequence[str], dropped: Tensor) -> Text:
        """Encode captions, or tokenise them where the model encodes text itself.

        Args:
            captions: B texts.
            dropped: (B,) bool, where the empty text stands instead.
        """
        tokens = {
            name: torch.where(dropped[:, None], self._empty[name], ids).to(self._device)
            for name, ids in self._tokenize(captions).items()
        }
        if self._parts.text_is_trained:
            return tokens
        with torch.no_grad():
            return encode_tokens(self._parts.text_encoder, tokens, self._parts.text_layers).float()

    def noisy_depth(
        self, batch: TrainingBatch, t: Tensor, generators: Sequence[torch.Generator]
    ) -> NoisyDepth:
        """Fill invalid depth, encode it, and draw its noise for levels t, (B,)."""
        codec = self._parts.depth_codec
        clean = codec.encode(fill_invalid(batch.depth))
        valid = patchify((batch.depth > 0)[:, None], codec.patch)
        noise = _noise(clean.shape, generators)
        seen = torch.where(valid, clean, noise) if self._config.invalid_depth == "noise" else clean
        placed = (part.to(self._device) for part in (clean, valid, seen, noise, t))
        return NoisyDepth(*placed)

    def depth_loss(self, output: Prediction, batch: NoisyBatch) -> Tensor:
        """(B,) loss of the predicted depth."""
        assert output.depth is not None
        assert batch.depth is not None
        patch = self._parts.depth_codec.patch
        return clean_signal_loss(
            unpatchify(output.depth, patch, batch.grid),
            unpatchify(batch.depth.clean, patch, batch.grid),
            unpatchify(batch.depth.valid, patch, batch.grid),
            batch.depth.t,
            self._config.edge_weight,
        )

    def precision(self) -> torch.autocast:
        """The precision of every forward."""
        bfloat16 = self._config.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16)

    @torch.no_grad()
    def predict(self, batch: NoisyBatch) -> Prediction:
        """What the model predicts, without gradients."""
        return self._predict(self._parts.model, batch)

    def _predict(self, forward: Forward, batch: NoisyBatch) -> Prediction:
        depth = batch.depth
        inputs: dict[str, Any] = {}
        if depth is not None:
            inputs = {"depth": depth.noisy, "t_depth": depth.t, "depth_valid": depth.valid}
        with self.precision():
            return forward(
                rgb=batch.noisy_rgb, t_rgb=batch.t_rgb, text=batch.text, grid=batch.grid, **inputs
            )

    def _rgb_loss(self, prediction: Tensor, batch: NoisyBatch) -> Tensor:
        if self._predicts_velocity:
            return velocity_loss(prediction, batch.rgb, batch.rgb_noise, batch.t_rgb)
        return clean_token_loss(prediction, batch.rgb, batch.t_rgb)

    def _velocity(self, prediction: Tensor, batch: NoisyBatch) -> Tensor:
        if self._predicts_velocity:
            return prediction
        return sample_to_velocity(batch.noisy_rgb, prediction, batch.t_rgb[:, None, None])

    def _base_velocity(self, batch: NoisyBatch, base: Mapping[str, Tensor]) -> Tensor:
        model = self._parts.model
        with swapped_weights(model, base), without_adapters(model):
            output = self.predict(replace(batch, depth=None))
        return self._velocity(output.rgb, batch)

    def _filled_by_average(
        self, batch: NoisyBatch, depth: NoisyDepth, average: Mapping[str, Tensor]
    ) -> NoisyBatch:
        with swapped_weights(self._parts.model, average):
            predicted = self.predict(batch).depth
        assert predicted is not None
        seen = torch.where(depth.valid, depth.clean, predicted)
        return replace(batch, depth=replace(depth, seen=seen))

    def _completed_by_average(
        self, batch: NoisyBatch, depth: NoisyDepth, average: Mapping[str, Tensor]
    ) -> NoisyBatch:
        """Depth that is a condition, made dense by what the average tells from the image."""
        sparse = (depth.t == 0) & ~depth.valid.all(dim=(1, 2))
        rows = sparse.nonzero()[:, 0]
        if not len(rows):
            # Processes that share the weights have to make the same forwards.
            rows = rows.new_zeros(1)
        noise = depth.noise[rows]
        everywhere = torch.ones_like(depth.valid[rows])
        given = NoisyBatch(
            rgb=batch.rgb[rows],
            rgb_noise=batch.rgb_noise[rows],
            t_rgb=torch.zeros_like(batch.t_rgb[rows]),
            text=_rows_of(batch.text, rows),
            depth=NoisyDepth(noise, everywhere, noise, noise, torch.ones_like(depth.t[rows])),
            grid=batch.grid,
        )
        with swapped_weights(self._parts.model, average):
            predicted = self.predict(given).depth
        assert predicted is not None
        dense = torch.where(depth.valid[rows], depth.clean[rows], predicted)
        seen = depth.seen.index_copy(0, rows, dense)
        seen = torch.where(sparse[:, None, None], seen, depth.seen)
        valid = depth.valid | sparse[:, None, None]
        return replace(batch, depth=replace(depth, seen=seen, valid=valid))

    def _tokenize(self, captions: Sequence[str]) -> dict[str, Tensor]:
        return tokenize(self._parts.tokenizer, captions, max_length=self._parts.text_length)

    def grid(self, batch: TrainingBatch) -> tuple[int, int]:
        """(rows, columns) of a batch's tokens."""
        rows, columns = (size // self._parts.depth_codec.patch for size in batch.depth.shape[1:])
        return rows, columns


def _rows_of(text: Text, rows: Tensor) -> Text:
    if isinstance(text, Tensor):
        return text[rows]
    return {name: tokens[rows] for name, tokens in text.items()}


def _noise(shape: torch.Size, generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(shape[1:], generator=one) for one in generators])
