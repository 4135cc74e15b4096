"""A checkpoint is gone on from by the training that it is of, and by no other."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import (
    CAPTIONS,
    SIZE,
    SIZES,
    InMemory,
    flux2_config,
    flux2_mixture,
    make_trainer,
    optimiser,
    random_mixture,
    save_flux2,
    snapshot,
    stop_before,
)
from training_files import one_line_error

from mfsynth.training.build import build_components
from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.config import NoiseConfig, TrainConfig
from mfsynth.training.data import Mixture
from mfsynth.training.given import given_to
from mfsynth.training.processes import join_processes
from mfsynth.training.trainer import Trainer

# Rates fall from step 9 on.
LONG = {"image_steps": 2, "joint_steps": 8, "decay_share": 0.25, "checkpoint_every": 2}


def stopped_at(folder: Path, step: int) -> None:
    trainer = make_trainer(optimiser(**LONG))
    stop_before(trainer, step + 1)
    with suppress(KeyboardInterrupt):
        trainer.run(random_mixture(), folder, lambda _: None)
    assert latest_checkpoint(folder).step == step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_decay": 0.02}, "optimiser.weight_decay: 0.01 -> 0.02"),
        ({"muon_learning_rate": None}, "optimiser.muon_learning_rate: 0.001 -> "),
        ({"batch_size": 2}, "optimiser.samples_of_a_step: 4 -> 2"),
        ({"complete_depth": True}, "optimiser.complete_depth: false -> true"),
        (
            {"distillation": {"noisy_depth": 1.0, "clean_depth": 0.1}},
            "optimiser.distillation.clean_depth: ",
        ),
        (
            {"joint_steps": 9, "ema": 0.5},
            "optimiser.ema: 0.9 -> 0.5; optimiser.joint_steps: 8 -> 9",
        ),
    ],
)
def test_other_settings_are_refused_and_listed(tmp_path, changes, message):
    stopped_at(tmp_path, 2)
    expected = r"checkpoint-00000002 is of other settings \(" + re.escape(message)
    with one_line_error(expected):
        make_trainer(optimiser(**LONG | changes)).resume(tmp_path)


def test_another_noise_is_refused(tmp_path):
    stopped_at(tmp_path, 2)
    with one_line_error(r"noise\.sigma: "):
        make_trainer(optimiser(**LONG), NoiseConfig(sigma=1.5)).resume(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint_every": 7},
        {"gradient_checkpointing": True},
        {"batch_size": 2, "accumulate": 2},
    ],
)
def test_what_changes_no_weight_may_change(tmp_path, changes):
    stopped_at(tmp_path, 2)
    assert make_trainer(optimiser(**LONG | changes)).resume(tmp_path)


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (4, {"joint_steps": 6, "decay_share": 0.5}),
        (4, {"joint_steps": 16}),
        (4, {"joint_steps": 4, "decay_share": 0.0}),
        (4, {"decay_share": 0.5}),
        (2, {"image_steps": 4}),
    ],
)
def test_the_end_may_be_moved_while_the_rates_have_not_begun_to_fall(tmp_path, step, changes):
    stopped_at(tmp_path / "moved", step)
    config = optimiser(**LONG | changes)
    moved = make_trainer(config)
    assert moved.resume(tmp_path / "moved")
    moved.run(random_mixture(), tmp_path / "moved", lambda _: None)
    whole = make_trainer(config)
    whole.run(random_mixture(), tmp_path / "whole", lambda _: None)
    ours, theirs = snapshot(moved), snapshot(whole)
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (10, {"joint_steps": 20}, "by which the rates differ from step 9 on"),
        (4, {"image_steps": 3}, "by which step 2 is of another phase"),
        (6, {"joint_steps": 5, "decay_share": 0.8}, "by which the rates differ from step 4 on"),
        (6, {"joint_steps": 2, "decay_share": 0.0}, "of step 6, after the end that was set now"),
    ],
)
def test_the_end_may_not_be_moved_where_rates_were_others(tmp_path, step, changes, message):
    stopped_at(tmp_path, step)
    with one_line_error(message):
        make_trainer(optimiser(**LONG | changes)).resume(tmp_path)


@pytest.mark.parametrize("part", ["model", "average", "optimiser"])
def test_a_checkpoint_without_one_of_its_files_is_refused(tmp_path, part):
    stopped_at(tmp_path, 2)
    (latest_checkpoint(tmp_path).path / f"{part}.safetensors").unlink()
    with one_line_error(rf"checkpoint-00000002/{part}\.safetensors is missing; give this training"):
        make_trainer(optimiser(**LONG)).resume(tmp_path)


def test_a_checkpoint_of_before_says_who_can_finish_it(tmp_path):
    stopped_at(tmp_path, 2)
    (latest_checkpoint(tmp_path).path / "checkpoint.json").unlink()
    with one_line_error("has no checkpoint.json: .*older mfsynth.*; give this training another"):
        make_trainer(optimiser(**LONG)).resume(tmp_path)


def flux2_trainer(config: TrainConfig) -> Trainer:
    torch.manual_seed(config.seed)
    components = build_components(config, CAPTIONS)
    given = given_to(config, flux2_mixture(), components)
    return Trainer(components, config.optimiser, config.noise, 0, join_processes(), given)


def small_trainer(output: Path, mixture: Mixture, **changes) -> Trainer:
    config = TrainConfig.model_validate(
        {
            "name": "tiny",
            "seed": 0,
            "size": SIZE,
            "data": [{"kind": "mfsynth", "url": "s3://key:secret@bucket/run?token=secret"}],
            "transformer": SIZES.model_dump(),
            "noise": {},
            "optimiser": optimiser().model_dump(),
            "output": output,
        }
        | changes
    )
    components = build_components(config, mixture.captions())
    given = given_to(config, mixture, components)
    return Trainer(components, config.optimiser, config.noise, 0, join_processes(), given)


def test_other_captions_or_more_items_are_other_data(tmp_path):
    data = random_mixture()
    small_trainer(tmp_path, data).save(tmp_path)
    assert small_trainer(tmp_path, data, name="other", licence="mit").resume(tmp_path)
    with one_line_error(r"of other settings \(data\.0\.mirror: false -> true\)"):
        part = {"kind": "mfsynth", "url": "s3://bucket/run", "mirror": True}
        small_trainer(tmp_path, data, data=[part]).resume(tmp_path)
    [part] = data.parts
    longer = InMemory([*part.source, part.source[0]])
    with one_line_error(r"of other settings \(captions\.digest: .*; items\.0: 8 -> 9\)"):
        small_trainer(tmp_path, replace(data, parts=(replace(part, source=longer),))).resume(
            tmp_path
        )
    other = InMemory([replace(part.source[0], text="a blue cube"), *part.source[1:]])
    with one_line_error(r"of other settings \(captions\.digest: \w+… -> \w+…\)"):
        small_trainer(tmp_path, replace(data, parts=(replace(part, source=other),))).resume(
            tmp_path
        )
    assert "secret" not in (latest_checkpoint(tmp_path).path / "checkpoint.json").read_text()


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 2}])
def test_models_that_are_given_may_move_but_must_not_change(tmp_path, lora):
    folder = save_flux2(tmp_path / "flux2")
    output = tmp_path / "out"
    flux2_trainer(flux2_config(folder, output, lora=lora)).save(output)
    moved = folder.rename(tmp_path / "moved")
    config = flux2_config(moved, output, lora=lora, name="other", licence="mit")
    assert flux2_trainer(config).resume(output)
    smaller = flux2_config(moved, output, lora=lora, size=16)
    with one_line_error(r"of other settings \(size: 32 -> 16\)"):
        flux2_trainer(smaller).resume(output)
    for part, name in (("text_encoder", "model"), ("vae", None), ("transformer", None)):
        file = moved / part / f"{name or 'diffusion_pytorch_model'}.safetensors"
        before = file.read_bytes()
        weights = load_file(file)
        save_file({key: value + 1 for key, value in weights.items()}, file, {"format": "pt"})
        with one_line_error(rf"of other settings \(weights\.{part}\.digest: \w+… -> \w+…\)"):
            flux2_trainer(config).resume(output)
        file.write_bytes(before)
