"""Two processes on the CPU against one with twice the batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import Scalars, record_losses, save_flux2, trainer_data_sampler

from mfsynth.training.checkpoints import latest_checkpoint

SUPPORT = Path(__file__).parents[1] / "support"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
# Without depth, with depth left out of a step, and with both; base and average in use.
SETTINGS = {
    "image_steps": 2,
    "joint_steps": 4,
    "image_only_share": 0.4,
    "muon_learning_rate": None,
    "adamw_learning_rate": 1e-3,
    "accumulate": 2,
    "batch_size": 2,
    "invalid_depth": "prediction",
    "distillation": {"noisy_depth": 1.0, "clean_depth": 0.1},
}

# A small model in two processes: test_ray_train.py.
CHANGES = {
    "sharded": {"sharding": "fsdp", "depth_head": "windows"},
    "adapters": {"lora": {"rank": 2, "alpha": 2}, "image_steps": 0, "joint_steps": 6},
}


@dataclass(frozen=True)
class Training:
    folder: Path
    model: str
    settings: Mapping[str, Any]


def launch(folder: Path, flux2: str, settings, *stop: int) -> int:
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*TORCHRUN, f"--master-port={port}", str(SUPPORT / "train_here.py")]
    done = subprocess.run(
        [*command, str(folder), flux2, json.dumps(settings), *map(str, stop)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if not stop:
        assert done.returncode == 0, done.stderr[-3000:]
    return done.returncode


def parts_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    checkpoint = latest_checkpoint(folder)
    assert checkpoint.step == 6
    return {path.stem: load_file(path) for path in checkpoint.path.glob("*.safetensors")}


@pytest.fixture(scope="module")
def flux2(tmp_path_factory):
    return str(save_flux2(tmp_path_factory.mktemp("flux2")))


@pytest.fixture(scope="module", params=CHANGES)
def two(request, tmp_path_factory, flux2) -> Training:
    """A whole training in two processes."""
    folder = tmp_path_factory.mktemp("two")
    training = Training(folder, flux2, SETTINGS | CHANGES[request.param])
    launch(training.folder, flux2, training.settings)
    return training


def assert_close(one, other):
    assert set(one) == set(other) >= {"model", "average", "optimiser"}
    for part, tensors in one.items():
        assert set(tensors) == set(other[part])
        for name, value in tensors.items():
            torch.testing.assert_close(
                other[part][name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path, two):
    alone = two.settings | {"batch_size": 4, "sharding": "none"}
    trainer, data, sampler = trainer_data_sampler(two.model, alone)
    losses = record_losses(trainer)
    board = Scalars()
    trainer.run(data, tmp_path, lambda _: None, board, sampler)

    summary = json.loads((two.folder / "losses.json").read_text())
    assert summary["processes"] == 2
    for step, expected in zip(summary["losses"], losses, strict=True):
        assert step == pytest.approx(expected, rel=1e-4)
    for step, values in board.by_step.items():
        errors = {tag: value for tag, value in values.items() if tag.startswith("error")}
        assert errors
        found = {tag: summary["scalars"][str(step)].get(tag) for tag in errors}
        assert found == pytest.approx(errors, rel=1e-3)
    assert_close(parts_of(tmp_path), parts_of(two.folder))


@pytest.mark.slow
@pytest.mark.parametrize("two", ["sharded"], indirect=True)
def test_two_processes_killed_and_resumed_end_as_if_they_had_not_been(tmp_path, two):
    assert launch(tmp_path, two.model, two.settings, 3) != 0
    assert latest_checkpoint(tmp_path).step == 3
    launch(tmp_path, two.model, two.settings)
    assert json.loads((tmp_path / "losses.json").read_text())["resumed"]
    whole, parts = parts_of(two.folder), parts_of(tmp_path)
    for part, tensors in whole.items():
        assert all(torch.equal(value, parts[part][name]) for name, value in tensors.items()), part
