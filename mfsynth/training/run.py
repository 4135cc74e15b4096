"""From a configuration to a model folder, in stages that each survive a restart."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mfsynth.errors import MfsynthError
from mfsynth.models.understanding import Understanding
from mfsynth.models.vocabulary import Vocabulary
from mfsynth.storage.atomic import staged_folder
from mfsynth.training.build import ModelComponents, build_components
from mfsynth.training.cards import licence_fields, write_card
from mfsynth.training.checkpoints import AVERAGE, latest_checkpoint
from mfsynth.training.config import TrainConfig
from mfsynth.training.data import Mixture, open_mixture, render_scenes, survey_parts
from mfsynth.training.given import given_to
from mfsynth.training.noise import torch_seed
from mfsynth.training.processes import join_processes
from mfsynth.training.progress import Log, quiet
from mfsynth.training.sample_grids import GridSampler, first_with_depth
from mfsynth.training.tensorboard import Board, is_installed
from mfsynth.training.trainer import Trainer

_CAPTIONS_LOOKED_AT = 1000
_MAPS_LOOKED_AT = 16


def train(config: TrainConfig, log: Log) -> Path:
    """Render, train, export.

    Run again after an interruption, it goes on where it was. Started in several processes by
    `accelerate launch`, `torchrun` or Ray Train, they train together.

    Args:
        config: What to train.
        log: Takes lines about the progress; those of the main process.

    Returns:
        The folder of the finished pipeline, `<output>/model`.
    """
    processes = join_processes()
    if not processes.is_main_process:
        log = quiet
    torch.manual_seed(torch_seed(config.seed))
    with processes.local_main_process_first():
        render_scenes(config.data, config.size, log)
        mixture = open_mixture(config.data, config.size, config.size)
        survey_parts(mixture, log)
        components = build_components(config, mixture.captions())
        tell_of_captions(components, mixture.captions(), log)
        tell_of_conditions(config, mixture, log)
        # What the card can't say is told now, not after days of training.
        licence_fields(config)
    trainer = Trainer(
        components,
        config.optimiser,
        config.noise,
        config.seed,
        processes,
        given_to(config, mixture, components),
    )
    if trainer.resume(config.output):
        log(f"resumed at step {trainer.state.step} from {config.output}")
    size = trainer.state.size
    log(f"{size / 1e6:.2f} M parameters to train, processes: {processes.num_processes}")
    board, sampler = None, None
    if is_installed(log):
        # All processes sample: each may have a part of the weights. One writes.
        sampler = GridSampler(components, config, mixture)
        if processes.is_main_process:
            board = Board(config.output / "tensorboard", trainer.state.step)
    trainer.run(mixture, config.output, log, board, sampler)
    if board is not None:
        board.close()

    folder = config.output / "model"
    if processes.is_main_process:
        export(config, mixture, folder)
        log(f"model: {folder}")
    processes.wait_for_everyone()
    processes.end_training()
    return folder


def tell_of_captions(components: ModelComponents, captions: Iterable[str], log: Log) -> None:
    """Say what a model that is gone on from can't learn of captions: its words are its own.

    Args:
        components: Of the training.
        captions: All of them; the first thousand are looked at, each once.
        log: Takes a line, if there is anything to say.
    """
    if components.initial is None:
        return
    vocabulary = Vocabulary(components.initial.path / "tokenizer", components.text_length)
    looked_at = [*dict.fromkeys(islice(captions, _CAPTIONS_LOOKED_AT))]
    if trouble := Understanding.of(vocabulary, looked_at).trouble:
        log(f"captions: {trouble}; what is not known or not read is not learnt")


def tell_of_conditions(config: TrainConfig, mixture: Mixture, log: Log) -> None:
    """Say in how many samples depth may be a condition of images, where sparse depth is none.

    Settings can't tell: beside patterns of sparsity, sensors have holes of their own.

    Args:
        config: Of the training.
        mixture: Its data; the first samples with depth are looked at.
        log: Takes a line, if there are samples in which it may not.

    Raises:
        MfsynthError: A sample can't be read.
    """
    noise = config.noise
    if config.optimiser.complete_depth or not noise.d2i_share:
        return
    samples = first_with_depth(mixture, config.seed, _MAPS_LOOKED_AT)
    shares = [np.mean(sample.depth > 0) for sample in samples if sample.depth is not None]
    dense = sum(share >= noise.d2i_min_valid for share in shares)
    if dense < len(shares):
        log(
            f"noise.d2i_share: depth may be a condition in {dense} of the first {len(shares)} "
            f"samples with depth: where at least {noise.d2i_min_valid:g} of its pixels are valid "
            "(noise.d2i_min_valid); with optimiser.complete_depth sparse depth is one, too"
        )


def export(config: TrainConfig, mixture: Mixture, folder: Path) -> None:
    """Save the averaged weights of the last checkpoint as a pipeline, adapters merged in.

    Raises:
        MfsynthError: There is no checkpoint, or the last one is not whole; or see
            `build_components` and `licence_fields`.
        OSError: The folder can't be written.
    """
    checkpoint = latest_checkpoint(config.output, AVERAGE)
    if checkpoint is None:
        raise MfsynthError(f"{config.output} has no checkpoint to export; train again")
    components = build_components(config, mixture.captions())
    trained = components.model.trained()
    with torch.no_grad():
        for name, value in checkpoint.read(AVERAGE):
            trained[name].copy_(value)
    transformer = components.model.transformer
    if components.model.has_adapters:
        transformer.fuse_lora()
        transformer.unload_lora()
    transformer.cast_body(torch.bfloat16)
    components.text_encoder.bfloat16()
    with staged_folder(folder, over=True) as staged:
        components.pipeline(config).save_pretrained(staged)
        write_card(config, staged)
