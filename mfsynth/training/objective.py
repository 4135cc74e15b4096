"""From a batch of samples to its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from mfsynth.models.sampling import sample_to_velocity
from mfsynth.models.text import encode_tokens, tokenize
from mfsynth.models.token_codecs import patchify, unpatchify
from mfsynth.training.build import ModelComponents
from mfsynth.training.config import NoiseConfig, OptimiserConfig
from mfsynth.training.data import TrainingBatch
from mfsynth.training.errors_by_level import no_errors, sum_by_level
from mfsynth.training.invalid_depth import fill_invalid
from mfsynth.training.joint_model import Prediction, Text, swapped_weights, without_adapters
from mfsynth.training.losses import (
    clean_token_loss,
    depth_loss,
    self_distillation_loss,
    velocity_loss,
)
from mfsynth.training.noise import (
    add_noise,
    draw_noise,
    draw_noise_levels,
    generators_on,
    sample_generators,
)

# Training sees each many times, and a GPU has done with a sample before a tokenizer has.
_KNOWN_CAPTIONS = 2**16

Forward = Callable[..., Prediction]
"""`JointModel.forward`, in whatever it is wrapped in."""


@dataclass(frozen=True, slots=True, eq=False)
class NoisyDepth:
    """Depth tokens on their way into the model.

    Attributes:
        clean: (B, N, p²) what the loss compares with; anything where depth isn't measured.
        measured: (B, H, W) bool, where the loss counts.
        seen: (B, N, p²) what is noised: `clean`, with something where depth isn't valid.
        valid: (B, N, p²) bool, where the model is told that a signal is: where depth is measured,
            and where it was completed.
        noise: (B, N, p²) standard normal.
        t: (B,) noise level.
    """

    clean: Tensor
    measured: Tensor
    seen: Tensor
    valid: Tensor
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
        """Of each loss, how many samples it is taken over.

        They are those whose stream is generated; of depth those that have any, too.
        """
        of_rgb = (self.t_rgb > 0).sum()
        if self.depth is None:
            return {"rgb": of_rgb}
        of_depth = (self.depth.t > 0) & self.depth.measured.any(dim=(1, 2))
        return {"rgb": of_rgb, "depth": of_depth.sum(), "distillation": of_rgb}


@dataclass(frozen=True, slots=True, eq=False)
class BatchLosses:
    """What a forward comes to.

    Attributes:
        sums: The sum over the batch's samples of each loss, with gradient.
        by_level: Unweighted errors by noise level, as `no_errors`.
    """

    sums: dict[str, Tensor]
    by_level: Tensor


class Objective:
    """The losses of Modality Forcing for one set of models.

    Args:
        components: The models.
        config: Of the losses.
        noise: How noise levels are drawn.
        seed: Of noise levels, noise and dropped captions.
        device: Where the models are.
    """

    def __init__(
        self,
        components: ModelComponents,
        config: OptimiserConfig,
        noise: NoiseConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self._components = components
        self._config = config
        if config.complete_depth:
            noise = noise.model_copy(update={"d2i_min_valid": 0.0})
        self._noise = noise
        self._seed = seed
        self._device = device
        self._patch = components.depth_codec.patch
        self._tokens_of = lru_cache(_KNOWN_CAPTIONS)(self._tokenise)
        self._predicts_velocity = components.model.transformer.config.rgb_prediction == "velocity"

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
        t_rgb, t_depth = draw_noise_levels(valid_share, self._noise, generators)
        captions = [
            "" if torch.rand((), generator=one) < self._config.text_dropout else caption
            for caption, one in zip(batch.captions, generators, strict=True)
        ]
        rgb = self._encode_images(batch.rgb)
        on_device = generators_on(self._device, generators)
        return NoisyBatch(
            rgb=rgb,
            rgb_noise=draw_noise(rgb.shape, on_device),
            t_rgb=t_rgb.to(self._device, non_blocking=True),
            text=self._encode_text(captions),
            depth=None if image_only else self._noisy_depth(batch, t_depth, on_device),
            grid=self._grid(batch),
        )

    def prepare_i2d(self, batch: TrainingBatch, numbers: Sequence[int], level: float) -> NoisyBatch:
        """Encode a batch whose images are given, without captions, and draw its depth's noise.

        Args:
            batch: B samples.
            numbers: Of the B samples, for their noise.
            level: Of all depth.
        """
        generators = generators_on(self._device, sample_generators(self._seed, numbers))
        rgb = self._encode_images(batch.rgb)
        return NoisyBatch(
            rgb=rgb,
            rgb_noise=torch.zeros_like(rgb),
            t_rgb=torch.zeros(len(rgb), device=self._device),
            text=self._encode_text([""] * len(rgb)),
            depth=self._noisy_depth(batch, torch.full((len(rgb),), level), generators),
            grid=self._grid(batch),
        )

    def losses(
        self,
        forward: Forward,
        batch: NoisyBatch,
        average: Mapping[str, Tensor],
        base: Mapping[str, Tensor] | None,
    ) -> BatchLosses:
        """The losses of a batch, and its errors by noise level.

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
        if batch.depth is not None:
            batch = replace(batch, depth=self._shown_depth(batch, batch.depth, average))
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
        sums = {name: loss.sum() for name, loss in losses.items()}
        return BatchLosses(sums, self._errors_by_level(output, batch))

    def depth_loss(self, output: Prediction, batch: NoisyBatch) -> Tensor:
        """(B,) loss of the predicted depth."""
        depth = batch.depth
        assert output.depth is not None
        assert depth is not None
        errors = unpatchify(output.depth - depth.clean, self._patch, batch.grid)[:, 0]
        limit = self._config.i2d_error_limit
        limits = None
        if limit is not None:
            limits = torch.where(batch.t_rgb == 0, limit, torch.inf)
        return depth_loss(errors, depth.measured, depth.t, self._config.edge_weight, limits)

    def precision(self) -> torch.autocast:
        """The precision of every forward."""
        bfloat16 = self._config.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16)

    @torch.no_grad()
    def predict(self, batch: NoisyBatch, **level: Tensor) -> Prediction:
        """What the model predicts, without gradients.

        Args:
            batch: That it sees.
            level: Depth's, `t_depth`, where its tokens are left out and the model wants it.
        """
        return self._predict(self._components.model, batch, **level)

    def _predict(self, forward: Forward, batch: NoisyBatch, **level: Tensor) -> Prediction:
        depth = level
        if batch.depth is not None:
            noisy = batch.depth
            depth = {"depth": noisy.noisy, "t_depth": noisy.t, "depth_valid": noisy.valid}
        with self.precision():
            return forward(
                rgb=batch.noisy_rgb, t_rgb=batch.t_rgb, text=batch.text, grid=batch.grid, **depth
            )

    @torch.no_grad()
    def _errors_by_level(self, output: Prediction, batch: NoisyBatch) -> Tensor:
        rgb, t = output.rgb, batch.t_rgb
        if self._predicts_velocity:
            rgb = batch.noisy_rgb - t[:, None, None] * rgb
        errors, untouched = (
            (of - batch.rgb).square().mean(dim=(1, 2)) for of in (rgb, batch.noisy_rgb)
        )
        streams = [sum_by_level(errors, untouched, t, t > 0)]
        if batch.depth is not None:
            assert output.depth is not None
            depth = batch.depth
            measured = patchify(depth.measured[:, None], self._patch)
            count = measured.sum(dim=(1, 2))
            errors, untouched = (
                torch.where(measured, (of - depth.clean).square(), 0.0).sum(dim=(1, 2))
                / count.clamp(min=1)
                for of in (output.depth, depth.noisy)
            )
            streams.append(sum_by_level(errors, untouched, depth.t, (depth.t > 0) & (count > 0)))
        by_level = no_errors(t.device)
        by_level[: len(streams)] = torch.stack(streams)
        return by_level

    def _rgb_loss(self, prediction: Tensor, batch: NoisyBatch) -> Tensor:
        if self._predicts_velocity:
            return velocity_loss(prediction, batch.rgb, batch.rgb_noise, batch.t_rgb)
        return clean_token_loss(prediction, batch.rgb, batch.t_rgb)

    def _velocity(self, prediction: Tensor, batch: NoisyBatch) -> Tensor:
        if self._predicts_velocity:
            return prediction
        return sample_to_velocity(batch.noisy_rgb, prediction, batch.t_rgb[:, None, None])

    def _base_velocity(self, batch: NoisyBatch, base: Mapping[str, Tensor]) -> Tensor:
        model, initial = self._components.model, self._components.initial
        level: dict[str, Tensor] = {}
        if initial is not None and initial.mixes_without_depth:
            # As its pipeline calls it for images alone.
            level["t_depth"] = torch.ones_like(batch.t_rgb)
        with swapped_weights(model, base), without_adapters(model):
            output = self.predict(replace(batch, depth=None), **level)
        return self._velocity(output.rgb, batch)

    def _shown_depth(
        self, batch: NoisyBatch, depth: NoisyDepth, average: Mapping[str, Tensor]
    ) -> NoisyDepth:
        """Depth with what the moving average has to fill in of it."""
        model = self._components.model
        if self._config.invalid_depth == "prediction":
            with swapped_weights(model, average):
                predicted = self.predict(batch).depth
            assert predicted is not None
            depth = replace(depth, seen=torch.where(depth.valid, depth.clean, predicted))
        if self._config.complete_depth:
            with swapped_weights(model, average):
                depth = self._completed(batch, depth)
        return depth

    @torch.no_grad()
    def _completed(self, batch: NoisyBatch, depth: NoisyDepth) -> NoisyDepth:
        """Depth that is a condition, made dense by what the model tells from the image."""
        sparse = (depth.t == 0) & ~depth.valid.all(dim=(1, 2))
        rows = sparse.nonzero()[:, 0]
        if not len(rows):
            # Processes that share the weights have to make the same forwards.
            rows = rows.new_zeros(1)
        # How many there are is chance: compiled blocks would be compiled again for each number.
        with self.precision(), torch.compiler.set_stance("force_eager"):
            predicted = self._components.model(
                rgb=batch.rgb[rows],
                t_rgb=torch.zeros_like(batch.t_rgb[rows]),
                text=_rows_of(batch.text, rows),
                grid=batch.grid,
                depth=depth.noise[rows],
                t_depth=torch.ones_like(depth.t[rows]),
                depth_valid=torch.ones_like(depth.valid[rows]),
            ).depth
        dense = torch.where(depth.valid[rows], depth.clean[rows], predicted)
        is_sparse = sparse[:, None, None]
        seen = torch.where(is_sparse, depth.seen.index_copy(0, rows, dense), depth.seen)
        return replace(depth, seen=seen, valid=depth.valid | is_sparse)

    def _encode_images(self, images: Tensor) -> Tensor:
        """Uint8 (B, H, W, 3) to (B, N, C) float32 clean tokens."""
        images = images.to(self._device, non_blocking=True).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            return self._components.rgb_codec.encode(images).float()

    def _encode_text(self, captions: Sequence[str]) -> Text:
        """Encode captions, or tokenise them where the model encodes text itself."""
        of = self._components
        rows = [self._tokens_of(caption) for caption in captions]
        tokens = {
            name: torch.cat([row[name] for row in rows]).to(self._device, non_blocking=True)
            for name in rows[0]
        }
        if of.text_is_trained:
            return tokens
        with torch.no_grad():
            return encode_tokens(of.text_encoder, tokens, of.text_layers).float()

    def _tokenise(self, caption: str) -> dict[str, Tensor]:
        of = self._components
        return tokenize(of.tokenizer, [caption], of.text_length)

    def _noisy_depth(
        self, batch: TrainingBatch, t: Tensor, generators: Sequence[torch.Generator]
    ) -> NoisyDepth:
        """Fill and encode depth, and draw its noise for levels t, (B,)."""
        filled = fill_invalid(batch.depth) if batch.filled is None else batch.filled
        clean = self._components.depth_codec.encode(filled.to(self._device, non_blocking=True))
        measured = batch.depth.to(self._device, non_blocking=True) > 0
        valid = patchify(measured[:, None], self._patch)
        noise = draw_noise(clean.shape, generators)
        seen = torch.where(valid, clean, noise) if self._config.invalid_depth == "noise" else clean
        t = t.to(self._device, non_blocking=True)
        return NoisyDepth(clean, measured, seen, valid, noise, t)

    def _grid(self, batch: TrainingBatch) -> tuple[int, int]:
        """(rows, columns) of a batch's tokens."""
        rows, columns = (size // self._patch for size in batch.depth.shape[1:])
        return rows, columns


def _rows_of(text: Text, rows: Tensor) -> Text:
    if isinstance(text, Tensor):
        return text[rows]
    return {name: tokens[rows] for name, tokens in text.items()}
