"""From a configuration to a model folder, in stages that each survive a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mfsynth.models.codecs import DepthCodec
from mfsynth.models.lapped import LappedCodec
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.text import tokenize
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.simulation import CachedScenes, render_dataset
from mfsynth.training.config import TrainConfig
from mfsynth.training.embedded import (
    build_text_encoder,
    build_tokenizer,
    build_transformer,
    text_encoder_layers,
)
from mfsynth.training.trainer import DEPTH_MEAN, DEPTH_STD, Trainer, TrainingImages

Log = Callable[[str], None]


def train(config: TrainConfig, log: Log) -> Path:
    """Render, train, export.

    Run again after an interruption, it goes on where it was.

    Returns:
        The folder of the finished pipeline, `<output>/model`.
    """
    torch.manual_seed(config.seed)
    scenes = _scenes(config, log)
    codec = DepthCodec(config.transformer.patch, DEPTH_MEAN, DEPTH_STD)

    tokenizer = build_tokenizer(scenes.captions)
    length = config.transformer.text_length
    text_encoder = build_text_encoder(config.transformer, len(tokenizer))
    transformer = build_transformer(config.transformer)
    trainer = Trainer(
        transformer,
        text_encoder,
        text_encoder_layers(config.transformer),
        tokenize(tokenizer, [""], length),
        LappedCodec(config.transformer.patch, config.transformer.rgb_bands),
        codec,
        config.optimiser,
        config.noise,
        config.seed,
    )
    if trainer.resume(config.output):
        log(f"resumed at step {trainer.step} from {config.output}")
    parameters = sum(p.numel() for p in trainer.model.parameters())
    log(f"{parameters / 1e6:.2f} M parameters in transformer and text encoder")
    text = tokenize(tokenizer, scenes.captions, length)
    trainer.run(TrainingImages(scenes.rgb, scenes.depth, text), config.output, log)

    trainer.model.load_state_dict(trainer.average)
    return _export(config, transformer, text_encoder, tokenizer, codec)


def _scenes(config: TrainConfig, log: Log) -> CachedScenes:
    data = config.data
    render_dataset(
        data.cache,
        library=data.library,
        scenes=data.scenes,
        views=data.views,
        size=data.size,
        seed=data.seed,
        workers=2,
    )
    scenes = CachedScenes.open(data.cache)
    log(f"{len(scenes)} images in {data.cache}")
    return scenes


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
        height=config.data.size,
        width=config.data.size,
        rgb_bands=config.transformer.rgb_bands,
    )
    folder = config.output / "model"
    pipeline.save_pretrained(folder)
    return folder
