"""A model of a few thousand weights, eight images, and a FLUX.2 pipeline as small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from numpy.typing import NDArray

from mfsynth.models.lapped_transform import LappedTransformCodec
from mfsynth.models.token_codecs import DepthCodec
from mfsynth.sources.base import Item
from mfsynth.training.build import ModelComponents, build_components, build_transformer
from mfsynth.training.config import NoiseConfig, OptimiserConfig, TrainConfig, TransformerConfig
from mfsynth.training.data.mixture import Mixture, Part
from mfsynth.training.joint_model import JointModel
from mfsynth.training.processes import join_processes
from mfsynth.training.sample_grids import GridSampler
from mfsynth.training.small_text_encoder import (
    build_text_encoder,
    build_tokenizer,
    text_encoder_layers,
)
from mfsynth.training.tensorboard import Board
from mfsynth.training.trainer import Trainer

SIZES = TransformerConfig(
    patch=8,
    rgb_bands=(4, 2),
    layers=1,
    single_layers=1,
    depth_decoder_layers=1,
    heads=2,
    head_dim=16,
    rope_axes=(4, 4, 4, 4),
    rope_theta=100,
    text_length=8,
    text_layers=1,
    text_channels=16,
)
FLUX2_SIZES = SIZES.model_dump(exclude={"rgb_bands"}) | {"latent_channels": 8, "text_layers": 2}
CAPTIONS = ["a red cube", "a blue ball"] * 4
SIZE = 16


def optimiser(**changes) -> OptimiserConfig:
    settings = {
        "image_steps": 2,
        "joint_steps": 4,
        "image_only_share": 0.2,
        "batch_size": 4,
        "muon_learning_rate": 1e-3,
        "adamw_learning_rate": 1e-3,
        "warmup_steps": 2,
        "decay_share": 0.5,
        "weight_decay": 0.01,
        "ema": 0.9,
        "edge_weight": 0.5,
        "text_dropout": 0.1,
        "checkpoint_every": 3,
    }
    return OptimiserConfig(**(settings | changes))


class InMemory(list[Item]):
    """Implements `FiniteSource`."""

    def texts(self) -> Iterator[str]:
        return (item.text for item in self)


def mixture(rgb, depth, **part) -> Mixture:
    items = map(Item, rgb, depth, CAPTIONS)
    return Mixture((Part(InMemory(items), **part),), SIZE, SIZE)


def random_mixture() -> Mixture:
    rng = np.random.default_rng(0)
    return mixture(
        rng.integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8),
        rng.uniform(0.5, 2, (8, SIZE, SIZE)).astype(np.float32),
    )


def make_components(config: OptimiserConfig) -> ModelComponents:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(CAPTIONS)
    text_encoder = build_text_encoder(SIZES, len(tokenizer))
    transformer = build_transformer(SIZES, depth_mask=config.invalid_depth == "noise")
    layers = text_encoder_layers(SIZES)
    return ModelComponents(
        model=JointModel(transformer, text_encoder, layers),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_layers=layers,
        text_length=SIZES.text_length,
        vae=None,
        rgb_codec=LappedTransformCodec(8, (4, 2)),
        depth_codec=DepthCodec(8, 1.0, 0.4),
    )


def make_trainer(
    config: OptimiserConfig,
    noise: NoiseConfig = NoiseConfig(),  # noqa: B008
) -> Trainer:
    return Trainer(make_components(config), config, noise, 0, join_processes())


def save_flux2(folder: Path) -> Path:
    """Write a tiny random FLUX.2 [klein] pipeline: transformer, vae, text_encoder, tokenizer."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer(CAPTIONS)
    tokenizer.save_pretrained(folder / "tokenizer")
    text_encoder = build_text_encoder(SIZES.model_copy(update={"text_layers": 2}), len(tokenizer))
    text_encoder.save_pretrained(folder / "text_encoder")
    AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=8,
        sample_size=32,
    ).save_pretrained(folder / "vae")
    Flux2Transformer2DModel(
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        timestep_guidance_channels=64,
        guidance_embeds=False,
        axes_dims_rope=(4, 4, 4, 4),
        rope_theta=100,
    ).save_pretrained(folder / "transformer")
    return folder


def flux2_config(folder: Path, output: Path, **changes) -> TrainConfig:
    settings = {
        "name": "tiny",
        "seed": 0,
        "size": 32,
        "data": [{"kind": "mfsynth", "url": "unused"}],
        "transformer": FLUX2_SIZES,
        "pretrained": {"id": str(folder), "text_states": [1, 2], "transformer": True},
        "noise": {},
        "optimiser": optimiser(
            image_steps=0,
            joint_steps=4,
            image_only_share=0,
            muon_learning_rate=None,
            distillation={"noisy_depth": 1.0, "clean_depth": 0.1},
        ).model_dump(),
        "output": output,
    }
    return TrainConfig.model_validate(settings | changes)


def make_flux2_trainer(config: TrainConfig) -> tuple[Trainer, ModelComponents]:
    torch.manual_seed(0)
    components = build_components(config, CAPTIONS)
    return Trainer(components, config.optimiser, config.noise, 0, join_processes()), components


def flux2_mixture() -> Mixture:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 2, (8, 32, 32)).astype(np.float32)
    items = map(Item, rgb, depth, CAPTIONS)
    return Mixture((Part(InMemory(items)),), 32, 32)


class Scalars(Board):
    """A board that keeps the scalars."""

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, float]] = {}

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.by_step.setdefault(step, {}).update(values)

    def images(self, step: int, images: Mapping[str, NDArray[np.uint8]]) -> None:
        pass


def record_losses(trainer: Trainer) -> list[dict[str, float]]:
    losses: list[dict[str, float]] = []
    original = trainer._train_step

    def record(*given):
        of_step, following = original(*given)
        losses.append(of_step)
        return of_step, following

    trainer._train_step = record
    return losses


def snapshot(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def stop_before(trainer: Trainer, step: int) -> None:
    """Have a run end as if it were killed."""
    original = trainer._train_step

    def until(*given):
        if trainer.state.step == step:
            raise KeyboardInterrupt
        return original(*given)

    trainer._train_step = until


def trainer_data_sampler(flux2: str, settings) -> tuple[Trainer, Mixture, GridSampler | None]:
    """A model of its own; in a FLUX.2 folder's latents where one is named, which samples, too.

    The latter is one from scratch, or with adapters where `lora` is among the settings; it may have
    another `depth_head`.
    """
    settings = dict(settings)
    lora = settings.pop("lora", None)
    depth_head = settings.pop("depth_head", "patches")
    if not flux2:
        return make_trainer(optimiser(**settings)), random_mixture(), None
    config = flux2_config(
        Path(flux2),
        Path("unused"),
        transformer=FLUX2_SIZES | {"depth_head": depth_head},
        pretrained={"id": flux2, "text_states": [1, 2], "transformer": lora is not None},
        lora=lora,
        optimiser=optimiser(**settings).model_dump(),
        samples={"images": 2, "steps": 2},
    )
    trainer, components = make_flux2_trainer(config)
    data = flux2_mixture()
    return trainer, data, GridSampler(components, config, data)
