"""The loop on a model of a few thousand weights and eight images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from compiling import graphs
from tiny_training import (
    make_trainer,
    mixture,
    optimiser,
    random_mixture,
    record_losses,
    snapshot,
    stop_before,
)

from mfsynth.errors import MfsynthError
from mfsynth.training.config import NoiseConfig
from mfsynth.training.data import Mixture
from mfsynth.training.skipped_steps import MAX_SKIPPED_STEPS
from mfsynth.training.trainer import Trainer


@pytest.fixture
def data() -> Mixture:
    return random_mixture()


@pytest.mark.parametrize(
    "changes",
    [
        {"image_steps": 0, "joint_steps": 6},
        {"image_steps": 4, "joint_steps": 2},
        {"distillation": {"noisy_depth": 1.0, "clean_depth": 0.1}, "image_only_share": 0},
        {"accumulate": 2, "invalid_depth": "prediction", "precision": "bfloat16"},
    ],
)
def test_a_run_killed_and_resumed_equals_one_that_was_not(data, tmp_path, changes):
    config = optimiser(**changes)
    whole = make_trainer(config)
    whole.run(data, tmp_path / "whole", lambda _: None)

    killed = make_trainer(config)
    stop_before(killed, 5)
    with pytest.raises(KeyboardInterrupt):
        killed.run(data, tmp_path / "parts", lambda _: None)

    resumed = make_trainer(config)
    assert resumed.resume(tmp_path / "parts")
    assert resumed.state.step == 3
    resumed.run(data, tmp_path / "parts", lambda _: None)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for name, value in whole.state.average.items():
        assert torch.equal(value, resumed.state.average[name]), name


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path):
    assert not make_trainer(optimiser()).resume(tmp_path)


def test_training_lowers_the_losses(tmp_path):
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    image = np.broadcast_to(ramp[None, None, :, None], (8, 16, 16, 3)).copy()
    depth = np.broadcast_to(1 + ramp / np.float32(255), (8, 16, 16)).copy()
    # One level for all: what differs from step to step is then learning, not luck.
    trainer = make_trainer(
        optimiser(image_steps=0, joint_steps=40, warmup_steps=5, image_only_share=0),
        NoiseConfig(i2d_share=0, d2i_share=0, shared_share=1, sigma=0),
    )
    losses = record_losses(trainer)
    trainer.run(mixture(image, depth), tmp_path, lambda _: None)
    for name in ("rgb", "depth"):
        values = [step[name] for step in losses]
        assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5]), name


def test_compiled_blocks_train_as_others_do(data, tmp_path, dynamo, eager):
    losses = {}
    for compiled in (False, True):
        settings = optimiser(
            image_steps=2, joint_steps=4, image_only_share=0, complete_depth=True, compile=compiled
        )
        trainer = make_trainer(settings, NoiseConfig(d2i_share=0.5))
        losses[compiled] = record_losses(trainer)
        trainer.run(data, tmp_path / str(compiled), lambda _: None)
    for plain, other in zip(*losses.values(), strict=True):
        assert other == pytest.approx(plain, rel=1e-3)
    # Two kinds of blocks of images alone, three of both; what sparse depth is filled with, by
    # batches of any size, is none of them.
    assert graphs() == 5


def test_depth_joins_after_the_image_phase_as_a_copy_of_the_rgb_stream(data, tmp_path):
    trainer = make_trainer(optimiser(image_steps=3, joint_steps=2, image_only_share=0))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    losses = record_losses(trainer)
    found = {}
    original = trainer._start_depth

    def start():
        original()
        found.update({k: v.clone() for k, v in trainer.model.state_dict().items()})

    trainer._start_depth = start
    trainer.run(data, tmp_path, lambda _: None)
    assert [set(step) for step in losses] == [{"rgb"}] * 3 + [{"rgb", "depth"}] * 2
    query = "transformer.transformer_blocks.0.attn."
    assert not torch.equal(before[query + "to_q.weight"], found[query + "to_q.weight"])
    assert torch.equal(found[query + "depth_q_proj.weight"], found[query + "to_q.weight"])
    assert (found["transformer.depth_proj_out.weight"] == 0).all()


def test_a_part_that_waits_for_depth_is_seen_from_there_on(tmp_path):
    dark, bright = (np.full((4, 16, 16, 3), level, np.uint8) for level in (0, 255))
    depth = np.ones((4, 16, 16), np.float32)
    data = Mixture(
        (*mixture(dark, depth).parts, *mixture(bright, depth, joint_only=True).parts), 16, 16
    )
    trainer = make_trainer(optimiser(image_steps=3, joint_steps=3))
    seen = []
    original = trainer._prepare

    def record(loaded, step):
        seen.append({int(image.max()) for _, batch in loaded for image in batch.rgb})
        return original(loaded, step)

    trainer._prepare = record
    trainer.run(data, tmp_path, lambda _: None)
    assert seen[:3] == [{0}] * 3
    assert set.union(*seen[3:]) == {0, 255}


def test_self_distillation_keeps_the_image_near_the_base(data, tmp_path):
    """With a weight that drowns all else, RGB without depth stays what the first phase made it."""
    drift = {}
    for weight in (0.0, 300.0):
        config = optimiser(
            image_steps=10,
            joint_steps=30,
            image_only_share=0,
            text_dropout=0,
            distillation={"noisy_depth": weight, "clean_depth": weight},
        )
        trainer = make_trainer(config)
        losses = record_losses(trainer)
        trainer.run(data, tmp_path / str(weight), lambda _: None)
        assert all(("distillation" in step) == (i >= 10) for i, step in enumerate(losses))
        drift[weight] = np.mean([step["distillation"] for step in losses[-5:]]) / max(weight, 1)
    assert drift[0.0] == 0
    assert drift[300.0] < np.mean([step["rgb"] for step in losses[-5:]])


def test_the_probe_is_logged_when_depth_is_trained(data, tmp_path):
    said = []
    make_trainer(optimiser()).run(data, tmp_path, said.append)
    assert any("step 6 health probe 1.0" in line for line in said)
    assert not any("step 0 health" in line for line in said)


def test_some_batches_of_the_second_phase_are_images_alone(data, tmp_path):
    trainer = make_trainer(optimiser(image_steps=0, joint_steps=40, image_only_share=0.5))
    losses = record_losses(trainer)
    trainer.run(data, tmp_path, lambda _: None)
    assert 10 <= sum("depth" not in step for step in losses) <= 30


@pytest.mark.parametrize("treatment", ["nearest", "noise", "prediction"])
def test_one_valid_pixel_in_twenty_is_enough_to_train_on(tmp_path, treatment):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 2, (8, 16, 16)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.95] = 0
    trainer = make_trainer(
        optimiser(image_steps=0, joint_steps=4, image_only_share=0, invalid_depth=treatment)
    )
    losses = record_losses(trainer)
    trainer.run(mixture(rgb, depth), tmp_path, lambda _: None)
    assert all(np.isfinite(step["depth"]) and step["depth"] > 0 for step in losses)


def test_samples_without_depth_train_the_image_alone(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    trainer = make_trainer(optimiser(image_steps=0, joint_steps=3, image_only_share=0))
    losses = record_losses(trainer)
    said = []
    trainer.run(mixture(rgb, [None] * 8), tmp_path, said.append)
    assert all(step["depth"] == 0 and step["rgb"] > 0 for step in losses)
    assert not any("probe" in line for line in said)


def test_two_accumulated_batches_are_one_of_twice_the_size(data, tmp_path):
    plain = {"image_steps": 1, "joint_steps": 3}
    whole = make_trainer(optimiser(**plain, batch_size=8))
    losses = record_losses(whole)
    whole.run(data, tmp_path / "whole", lambda _: None)
    parts = make_trainer(optimiser(**plain, batch_size=4, accumulate=2))
    losses_of_parts = record_losses(parts)
    parts.run(data, tmp_path / "parts", lambda _: None)
    for step, step_of_parts in zip(losses, losses_of_parts, strict=True):
        assert step_of_parts == pytest.approx(step, rel=1e-4)
    for name, value in snapshot(whole).items():
        torch.testing.assert_close(parts.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_gradient_checkpointing_changes_no_weight(data, tmp_path):
    ends = []
    for checkpointing in (False, True):
        trainer = make_trainer(optimiser(gradient_checkpointing=checkpointing))
        trainer.run(data, tmp_path / str(checkpointing), lambda _: None)
        ends.append(snapshot(trainer))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value)


def poison(trainer: Trainer, steps: range) -> None:
    original = trainer._losses

    def poisoned(*arguments):
        factor = float("nan") if trainer.state.step in steps else 1.0
        losses = original(*arguments)
        return replace(losses, sums={name: loss * factor for name, loss in losses.sums.items()})

    trainer._losses = poisoned


def test_a_step_without_a_finite_gradient_is_left_out(data, tmp_path):
    trainer = make_trainer(optimiser(image_steps=0, joint_steps=1))
    poison(trainer, range(1))
    before = snapshot(trainer)
    trainer.run(data, tmp_path, lambda _: None)
    assert trainer.state.step == 1
    assert all(torch.equal(value, before[name]) for name, value in snapshot(trainer).items())


def test_a_training_that_stays_infinite_ends_with_what_to_do(data, tmp_path):
    trainer = make_trainer(optimiser(image_steps=0, joint_steps=40, checkpoint_every=50))
    poison(trainer, range(5, 40))
    with pytest.raises(MfsynthError, match=r"to step 15; lower the learning rates"):
        trainer.run(data, tmp_path, lambda _: None)
    assert trainer.state.step == 5 + MAX_SKIPPED_STEPS
