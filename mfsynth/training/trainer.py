"""The training loop of the embedded model."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from mfsynth.errors import MfsynthError
from mfsynth.models.codecs import DepthCodec, RGBCodec, unpatchify
from mfsynth.models.sampling import sample_to_velocity
from mfsynth.models.text import encode_tokens
from mfsynth.models.transformer import ModalityForcingTransformerOutput
from mfsynth.training.config import OptimiserConfig
from mfsynth.training.data import Mixture, TrainingBatch, batches, collate
from mfsynth.training.invalid_depth import fill_tokens_nearest
from mfsynth.training.recipe import (
    NoiseRecipe,
    add_noise,
    clean_signal_loss,
    clean_token_loss,
    draw_noise_levels,
    health_probe,
    self_distillation_loss,
)

# Centre and spread of the contracted depth of tabletop scenes.
DEPTH_MEAN, DEPTH_STD = 1.0, 0.4

# The probe's images are the stream's first with depth, at a level where their depth's own noisy
# pixels tell little.
PROBE_IMAGES, PROBE_LEVEL = 16, 0.9

# A step of no finite gradient is left out; that many in a row won't mend themselves.
MAX_SKIPPED_STEPS = 10

Tokenize = Callable[[Sequence[str]], dict[str, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class NoisyDepth:
    """Depth tokens on their way into the model; images are square.

    Attributes:
        clean: (B, N, p²) what the loss compares with; anything where invalid.
        valid: (B, N, p²) bool.
        seen: (B, N, p²) what is noised: `clean`, with something at invalid pixels.
        noise: (B, N, p²) standard normal.
        t: (B,) noise level.
        grid: (rows, columns) of tokens.
    """

    clean: Tensor
    valid: Tensor
    seen: Tensor
    noise: Tensor
    t: Tensor
    grid: tuple[int, int]

    @property
    def noisy(self) -> Tensor:
        """(B, N, p²), what the model gets."""
        return add_noise(self.seen, self.noise, self.t)


def learning_rate_factor(step: int, config: OptimiserConfig) -> float:
    """Warm up in each phase, stay, and fall linearly to 5 % at the end of the second."""
    start = config.image_steps if step >= config.image_steps else 0
    warm = min(1.0, (step - start + 1) / max(1, config.warmup_steps))
    decay_steps = max(1, round(config.joint_steps * config.decay_share))
    left = min(1.0, (config.steps - step) / decay_steps)
    return warm * max(0.05, left)


class Trainer:
    """Trains a transformer and its text encoder: text-to-image first, then with depth.

    Checkpoints hold the weights, their moving average, the optimisers and the step; every step
    draws its batch and noise from its own seed, so a resumed run sees what an uninterrupted one
    would have seen.
    """

    def __init__(
        self,
        transformer: Any,
        text_encoder: Any,
        layers: tuple[int, ...],
        tokenize: Tokenize,
        rgb_codec: RGBCodec,
        depth_codec: DepthCodec,
        config: OptimiserConfig,
        recipe: NoiseRecipe,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self.model = nn.ModuleDict({"transformer": transformer, "text_encoder": text_encoder})
        self.model.to(self._device)
        if config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        self._transformer = transformer
        self._layers = layers
        self._tokenize = tokenize
        self._empty = tokenize([""])
        self._rgb_codec = rgb_codec
        self._depth_codec = depth_codec
        self._config = config
        self._recipe = recipe
        self._seed = seed
        self.step = 0
        self._skipped = 0
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self._base: nn.ModuleDict | None = None
        self._optimisers = _build_optimisers(self.model, config)

    def run(self, data: Mixture, folder: Path, log: Callable[[str], None]) -> None:
        """Train to the configured step, saving checkpoints into `folder`.

        Raises:
            MfsynthError: The loss stays infinite or NaN, or a sample can't be read.
        """
        started, first = time.monotonic(), self.step
        config, size = self._config, self._config.accumulate
        stream = batches(
            data, self._seed, config.batch_size, range(first * size, config.steps * size)
        )
        losses: list[dict[str, float]] = []
        while self.step < self._config.steps:
            if self.step == self._config.image_steps > 0:
                self._start_depth()
            losses.append(self._train_step([next(stream) for _ in range(size)]))
            if self.step % 50 == 0:
                means = "".join(
                    f" {name} {np.mean([step[name] for step in losses if name in step]):.4f}"
                    for name in ("rgb", "depth", "distillation")
                    if any(name in step for step in losses)
                )
                losses.clear()
                seconds = (time.monotonic() - started) / (self.step - first)
                left = seconds * (self._config.steps - self.step) / 60
                log(
                    f"step {self.step}/{self._config.steps}{means} "
                    f"{seconds:.2f} s/step, {left:.0f} min left"
                )
            if self.step % self._config.checkpoint_every == 0 or self.step == self._config.steps:
                self.save(folder)
                if self.step > self._config.image_steps and (probe := self.probe(data)):
                    log(f"step {self.step} health probe {probe:.2f} (1: blind to RGB)")

    def _start_depth(self) -> None:
        if self._config.distillation is not None:
            self._base = self._frozen(self.average)
        self._transformer.init_depth_from_rgb()
        for name, value in self.model.state_dict().items():
            if "depth" in name:
                self.average[name].copy_(value)

    def _frozen(self, state: dict[str, Tensor]) -> nn.ModuleDict:
        base = copy.deepcopy(self.model)
        base.load_state_dict(state)
        return base.requires_grad_(False)

    def probe(self, data: Mixture) -> float | None:
        """Whether i2d looks at the image: see `health_probe`; None where hardly any has depth."""
        drawn = (data.sample(self._seed, index) for index in range(4 * PROBE_IMAGES))
        samples = [sample for sample in drawn if sample.depth is not None][:PROBE_IMAGES]
        if len(samples) < 2:
            return None
        batch = collate(samples)
        empty = {name: ids.expand(len(samples), -1) for name, ids in self._empty.items()}
        level = torch.full((len(samples),), PROBE_LEVEL, device=self._device)
        with torch.no_grad():
            text = self._encode(self.model, empty)
            depth = self._noisy_depth(batch, level, torch.Generator().manual_seed(self._seed))

            def depth_loss(rgb: Tensor) -> Tensor:
                output = self._predict(self._transformer, rgb, torch.zeros_like(level), text, depth)
                return self._depth_loss(output.depth, depth)

            return health_probe(depth_loss, self._rgb_codec.encode(self._images(batch)))

    def _train_step(self, parts: Sequence[TrainingBatch]) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.step)
        drawn = torch.rand((), generator=generator).item() < self._config.image_only_share
        image_only = drawn or self.step < self._config.image_steps
        means: dict[str, float] = {}
        for batch in parts:
            losses = self._losses(batch, image_only, generator)
            (torch.stack(list(losses.values())).sum() / len(parts)).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0.0) + loss.item() / len(parts)
        self._update(nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        return means

    def _update(self, gradient_norm: Tensor) -> None:
        factor = learning_rate_factor(self.step, self._config)
        self.step += 1
        finite = bool(gradient_norm.isfinite())
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped == MAX_SKIPPED_STEPS:
            raise MfsynthError(
                f"the gradient was infinite or NaN in {MAX_SKIPPED_STEPS} steps in a row, to step "
                f"{self.step}; lower the learning rates and run again from the last checkpoint"
            )
        for optimiser, rate in zip(self._optimisers, _rates(self._config), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            if finite:
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if finite:
            self._update_average()

    def _losses(
        self, batch: TrainingBatch, image_only: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        tokens = self._text(batch.captions, generator)
        rgb = self._rgb_codec.encode(self._images(batch))
        valid_share = (batch.depth > 0).float().mean(dim=(1, 2)) * (not image_only)
        levels = draw_noise_levels(valid_share, self._recipe, generator)
        t_rgb, t_depth = (level.to(self._device) for level in levels)
        noisy_rgb = add_noise(rgb, self._noise(rgb.shape, generator), t_rgb)
        depth = None if image_only else self._noisy_depth(batch, t_depth, generator)
        text = self._encode(self.model, tokens)
        if depth is not None and self._config.invalid_depth == "prediction":
            depth = self._filled_by_average(depth, noisy_rgb, t_rgb, text)
        output = self._predict(self._transformer, noisy_rgb, t_rgb, text, depth)
        losses = {"rgb": clean_token_loss(output.rgb, rgb, t_rgb)}
        if depth is None:
            return losses
        losses["depth"] = self._depth_loss(output.depth, depth)
        weights = self._config.distillation
        if self._base is not None and weights is not None:
            with torch.no_grad():
                base_text = self._encode(self._base, tokens)
                base = self._predict(self._base["transformer"], noisy_rgb, t_rgb, base_text, None)
            level = t_rgb[:, None, None]
            losses["distillation"] = self_distillation_loss(
                sample_to_velocity(noisy_rgb, output.rgb, level),
                sample_to_velocity(noisy_rgb, base.rgb, level),
                t_rgb,
                t_depth,
                weights.noisy_depth,
                weights.clean_depth,
            )
        return losses

    def _images(self, batch: TrainingBatch) -> Tensor:
        return batch.rgb.to(self._device).permute(0, 3, 1, 2) / 127.5 - 1

    def _noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator).to(self._device)

    def _text(self, captions: Sequence[str], generator: torch.Generator) -> dict[str, Tensor]:
        dropped = torch.rand(len(captions), generator=generator) < self._config.text_dropout
        return {
            name: torch.where(dropped[:, None], self._empty[name], ids)
            for name, ids in self._tokenize(captions).items()
        }

    def _encode(self, model: nn.ModuleDict, tokens: dict[str, Tensor]) -> Tensor:
        placed = {name: ids.to(self._device) for name, ids in tokens.items()}
        with self._precision():
            return encode_tokens(model["text_encoder"], placed, self._layers)

    def _noisy_depth(
        self, batch: TrainingBatch, t: Tensor, generator: torch.Generator
    ) -> NoisyDepth:
        patch = self._depth_codec.patch
        rows, columns = (size // patch for size in batch.depth.shape[1:])
        clean = self._depth_codec.encode(batch.depth)
        noise = torch.randn(clean.values.shape, generator=generator)
        if self._config.invalid_depth == "noise":
            seen = torch.where(clean.valid, clean.values, noise)
        else:
            seen = fill_tokens_nearest(clean, patch, (rows, columns))
        return NoisyDepth(
            clean=clean.values.to(self._device),
            valid=clean.valid.to(self._device),
            seen=seen.to(self._device),
            noise=noise.to(self._device),
            t=t,
            grid=(rows, columns),
        )

    @torch.no_grad()
    def _filled_by_average(
        self, depth: NoisyDepth, rgb: Tensor, t_rgb: Tensor, text: Tensor
    ) -> NoisyDepth:
        prefix = "transformer."
        weights = {
            k.removeprefix(prefix): v for k, v in self.average.items() if k.startswith(prefix)
        }

        def average(**inputs: Any) -> ModalityForcingTransformerOutput:
            return functional_call(self._transformer, weights, (), inputs)

        output = self._predict(average, rgb, t_rgb, text, depth)
        assert output.depth is not None
        return replace(depth, seen=torch.where(depth.valid, depth.clean, output.depth))

    def _predict(
        self,
        transformer: Callable[..., ModalityForcingTransformerOutput],
        rgb: Tensor,
        t_rgb: Tensor,
        text: Tensor,
        depth: NoisyDepth | None,
    ) -> ModalityForcingTransformerOutput:
        side = math.isqrt(rgb.shape[1])
        with self._precision():
            output = transformer(
                rgb=rgb,
                depth=None if depth is None else depth.noisy,
                text=text,
                rgb_timestep=t_rgb,
                depth_timestep=None if depth is None else depth.t,
                grid=(side, side),
                depth_valid=None if depth is None else depth.valid,
            )
        return ModalityForcingTransformerOutput(output.rgb.float(), output.depth)

    def _precision(self) -> torch.autocast:
        bfloat16 = self._config.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16)

    def _depth_loss(self, predicted: Tensor | None, depth: NoisyDepth) -> Tensor:
        assert predicted is not None
        patch = self._depth_codec.patch
        return clean_signal_loss(
            unpatchify(predicted, patch, depth.grid),
            unpatchify(depth.clean, patch, depth.grid),
            unpatchify(depth.valid, patch, depth.grid),
            depth.t,
            self._config.edge_weight,
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on, a short memory: the random initial weights must not linger in the average.
        decay = min(self._config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder` by the present state, all at once."""
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.items()}
        if self._base is not None:
            state |= {f"base.{k}": v for k, v in self._base.state_dict().items()}
        for number, optimiser in enumerate(self._optimisers):
            for index, moments in optimiser.state_dict()["state"].items():
                state |= {f"optimiser.{number}.{index}.{k}": v for k, v in moments.items()}
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / "checkpoint.safetensors.new"
        save_file(
            {k: v.contiguous() for k, v in state.items()},
            staged,
            metadata={"training": json.dumps({"step": self.step})},
        )
        staged.replace(folder / "checkpoint.safetensors")

    def resume(self, folder: Path) -> bool:
        """Take up the checkpoint in `folder`; False where there is none."""
        path = folder / "checkpoint.safetensors"
        if not path.exists():
            return False
        with safe_open(path, "pt", device=str(self._device)) as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.step = json.loads(file.metadata()["training"])["step"]

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.average = part("average.")
        if base := part("base."):
            self._base = self._frozen(base)
        for number, optimiser in enumerate(self._optimisers):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimiser.{number}.").items():
                index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": moments, "param_groups": groups})
        return True


def _rates(config: OptimiserConfig) -> tuple[float, float]:
    return config.muon_learning_rate, config.adamw_learning_rate


def _build_optimisers(
    model: nn.Module, config: OptimiserConfig
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside of blocks, AdamW for embeddings, heads, norms, modulations."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = "blocks." in name or ".layers." in name
        (matrices if inside and parameter.ndim == 2 else rest).append(parameter)
    muon, adamw = _rates(config)
    return (
        torch.optim.Muon(
            matrices, lr=muon, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            rest, lr=adamw, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
        ),
    )
