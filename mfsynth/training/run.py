"""From a configuration to a model folder, in stages that each survive a restart."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mfsynth.models.codecs import DepthCodec
from mfsynth.models.lapped import LappedCodec
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.text import tokenize
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.simulation import render_dataset
from mfsynth.training.config import TrainConfig
from mfsynth.training.data import open_mixture
from mfsynth.training.data.settings import CachedScenesSettings
from mfsynth.training.embedded import (
    build_text_encoder,
    build_tokenizer,
    build_transformer,
    text_encoder_layers,
)
from mfsynth.training.trainer import DEPTH_MEAN, DEPTH_STD, Trainer

Log = Callable[[str], None]


def train(config: TrainConfig, log: Log) -> Path:
    """Render, train, export.

    Run again after an interruption, it goes on where it was.

    Returns:
        The folder of the finished pipeline, `<output>/model`.
    """
    torch.manual_seed(config.seed)
    _render(config, log)
    mixture = open_mixture(config.data, config.size, config.size)
    codec = DepthCodec(config.transformer.patch, DEPTH_MEAN, DEPTH_STD)

    tokenizer = build_tokenizer(mixture.captions())
    text_encoder = build_text_encoder(config.transformer, len(tokenizer))
    transformer = build_transformer(
        config.transformer, depth_mask=config.optimiser.invalid_depth == "noise"
    )
    trainer = Trainer(
        transformer,
        text_encoder,
        text_encoder_layers(config.transformer),
        functools.partial(tokenize, tokenizer, max_length=config.transformer.text_length),
        LappedCodec(config.transformer.patch, config.transformer.rgb_bands),
        codec,
        config.optimiser,
        config.noise,
        config.seed,
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    if trainer.resume(config.output):
        log(f"resumed at step {trainer.step} from {config.output}")
    parameters = sum(p.numel() for p in trainer.model.parameters())
    log(f"{parameters / 1e6:.2f} M parameters in transformer and text encoder")
    trainer.run(mixture, config.output, log)

    trainer.model.load_state_dict(trainer.average)
    return _export(config, transformer, text_encoder, tokenizer, codec)


def _render(config: TrainConfig, log: Log) -> None:
    for part in config.data:
        if isinstance(part, CachedScenesSettings) and part.render is not None:
            scenes = render_dataset(
                Path(part.path),
                library=part.render.library,
                scenes=part.render.scenes,
                views=part.render.views,
                size=config.size,
                seed=part.render.seed,
                workers=2,
            )
            log(f"{len(scenes)} images in {part.path}")


def _export(
    config: TrainConfig,
    transformer: ModalityForcingTransformer2DModel,
    text_encoder: Any,
    tokenizer: Any,
    codec: DepthCodec,
) -> Path:
    transformer.cast_body(torch.bfloat16)
    text_encoder.bfloat16()
    pipeline = ModalityForcingPipeline(
        transformer=transformer,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_layers=text_encoder_layers(config.transformer),
        max_text_length=config.transformer.text_length,
        rgb_shift_mu=config.noise.rgb_mu,
        depth_shift_mu=config.noise.depth_mu,
        depth_mean=codec.mean,
        depth_std=codec.std,
        height=config.size,
        width=config.size,
        rgb_bands=config.transformer.rgb_bands,
    )
    folder = config.output / "model"
    pipeline.save_pretrained(folder)
    return folder
