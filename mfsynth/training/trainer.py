"""The training loop of the embedded model."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mfsynth.models.codecs import DepthCodec, RGBCodec, unpatchify
from mfsynth.models.sampling import sample_to_velocity
from mfsynth.models.text import encode_tokens
from mfsynth.training.config import OptimiserConfig
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

# The probe's images are those of the training set's beginning, at a level where their depth's own
# noisy pixels tell little.
PROBE_IMAGES, PROBE_LEVEL = 16, 0.9


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """A training set.

    Attributes:
        rgb: (N, H, W, 3) uint8, mapped from disk.
        depth: (N, H, W) float32 in any unit, 0 where invalid, mapped from disk.
        text: token ids and masks, (N, L) each.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    text: dict[str, Tensor]


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
        empty_prompt: dict[str, Tensor],
        rgb_codec: RGBCodec,
        depth_codec: DepthCodec,
        config: OptimiserConfig,
        recipe: NoiseRecipe,
        seed: int,
    ) -> None:
        self.model = nn.ModuleDict({"transformer": transformer, "text_encoder": text_encoder})
        self._transformer = transformer
        self._layers = layers
        self._empty = empty_prompt
        self._rgb_codec = rgb_codec
        self._depth_codec = depth_codec
        self._config = config
        self._recipe = recipe
        self._seed = seed
        self.step = 0
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self._base: nn.ModuleDict | None = None
        self._optimisers = _build_optimisers(self.model, config)

    def run(self, data: TrainingImages, folder: Path, log: Callable[[str], None]) -> None:
        """Train to the configured step, saving checkpoints into `folder`."""
        started, first = time.monotonic(), self.step
        losses: list[dict[str, float]] = []
        while self.step < self._config.steps:
            if self.step == self._config.image_steps > 0:
                self._start_depth()
            losses.append(self._train_step(data))
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
                if self.step > self._config.image_steps:
                    log(f"step {self.step} health probe {self.probe(data):.2f} (1: blind to RGB)")

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

    def probe(self, data: TrainingImages) -> float:
        """Whether i2d looks at the image: see `health_probe`."""
        generator = torch.Generator().manual_seed(self._seed)
        count = min(PROBE_IMAGES, len(data.rgb))
        images = torch.tensor(data.rgb[:count]).permute(0, 3, 1, 2) / 127.5 - 1
        maps = torch.tensor(data.depth[:count])
        depth = self._depth_codec.encode(maps)
        level = torch.full((count,), PROBE_LEVEL)
        noise = torch.randn(depth.values.shape, generator=generator)
        empty = {name: ids.expand(count, -1) for name, ids in self._empty.items()}
        text = encode_tokens(self.model["text_encoder"], empty, self._layers)

        def depth_loss(rgb: Tensor) -> Tensor:
            output = self._transformer(
                rgb=rgb,
                depth=add_noise(depth.values, noise, level),
                text=text,
                rgb_timestep=torch.zeros(count),
                depth_timestep=level,
                grid=self._grid(images),
            )
            return self._depth_loss(output.depth, depth.values, maps, level)

        return health_probe(depth_loss, self._rgb_codec.encode(images))

    def _train_step(self, data: TrainingImages) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.step)
        size = self._config.batch_size
        rows = torch.randperm(len(data.rgb), generator=generator)[:size].sort().values
        mirror = torch.rand(size, generator=generator) < 0.5
        image_only = torch.rand((), generator=generator) < self._config.image_only_share
        tokens = self._text(data, rows, generator)
        images = torch.from_numpy(data.rgb[rows.numpy()]).permute(0, 3, 1, 2) / 127.5 - 1
        images = torch.where(mirror[:, None, None, None], images.flip(3), images)
        if image_only or self.step < self._config.image_steps:
            losses = self._image_losses(images, tokens, generator)
        else:
            maps = torch.from_numpy(data.depth[rows.numpy()])
            maps = torch.where(mirror[:, None, None], maps.flip(2), maps)
            losses = self._joint_losses(images, maps, tokens, generator)

        factor = learning_rate_factor(self.step, self._config)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser, rate in zip(self._optimisers, _rates(self._config), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        return {name: loss.item() for name, loss in losses.items()}

    def _grid(self, images: Tensor) -> tuple[int, int]:
        patch = self._depth_codec.patch
        return images.shape[2] // patch, images.shape[3] // patch

    def _encode(self, model: nn.ModuleDict, tokens: dict[str, Tensor]) -> Tensor:
        return encode_tokens(model["text_encoder"], tokens, self._layers)

    def _image_losses(
        self, images: Tensor, tokens: dict[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        rgb = self._rgb_codec.encode(images)
        spread = torch.randn(len(rgb), generator=generator)
        t = torch.sigmoid(self._recipe.rgb_mu + self._recipe.sigma * spread)
        noise = torch.randn(rgb.shape, generator=generator)
        output = self._transformer(
            rgb=add_noise(rgb, noise, t),
            depth=None,
            text=self._encode(self.model, tokens),
            rgb_timestep=t,
            depth_timestep=None,
            grid=self._grid(images),
        )
        return {"rgb": clean_token_loss(output.rgb, rgb, t)}

    def _joint_losses(
        self,
        images: Tensor,
        maps: Tensor,
        tokens: dict[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        grid = self._grid(images)
        rgb = self._rgb_codec.encode(images)
        depth = self._depth_codec.encode(maps)
        t_rgb, t_depth = draw_noise_levels(len(rgb), self._recipe, generator)
        rgb_noise = torch.randn(rgb.shape, generator=generator)
        depth_noise = torch.randn(depth.values.shape, generator=generator)
        noisy_rgb = add_noise(rgb, rgb_noise, t_rgb)
        output = self._transformer(
            rgb=noisy_rgb,
            depth=add_noise(depth.values, depth_noise, t_depth),
            text=self._encode(self.model, tokens),
            rgb_timestep=t_rgb,
            depth_timestep=t_depth,
            grid=grid,
        )
        losses = {
            "rgb": clean_token_loss(output.rgb, rgb, t_rgb),
            "depth": self._depth_loss(output.depth, depth.values, maps, t_depth),
        }
        if self._base is not None and self._config.distillation is not None:
            with torch.no_grad():
                base = self._base["transformer"](
                    rgb=noisy_rgb,
                    depth=None,
                    text=self._encode(self._base, tokens),
                    rgb_timestep=t_rgb,
                    depth_timestep=None,
                    grid=grid,
                )
            level = t_rgb[:, None, None]
            losses["distillation"] = self_distillation_loss(
                sample_to_velocity(noisy_rgb, output.rgb, level),
                sample_to_velocity(noisy_rgb, base.rgb, level),
                t_rgb,
                t_depth,
                self._config.distillation.noisy_depth,
                self._config.distillation.clean_depth,
            )
        return losses

    def _depth_loss(self, predicted: Tensor, clean: Tensor, maps: Tensor, t: Tensor) -> Tensor:
        patch = self._depth_codec.patch
        grid = self._grid(maps[:, None])
        return clean_signal_loss(
            unpatchify(predicted, patch, grid),
            unpatchify(clean, patch, grid),
            maps[:, None] > 0,
            t,
            self._config.edge_weight,
        )

    def _text(
        self, data: TrainingImages, rows: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        dropped = torch.rand(len(rows), generator=generator) < self._config.text_dropout
        return {
            name: torch.where(dropped[:, None], self._empty[name], ids[rows])
            for name, ids in data.text.items()
        }

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
        with safe_open(path, "pt") as file:
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
