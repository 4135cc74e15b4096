"""`mfsynth distill` in two processes on the CPU against one with twice the batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_students import distill_config

from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.distillation.run import distill


@pytest.mark.slow
def test_two_processes_distil_what_one_does_with_twice_the_batch(tiny_model_dir, tmp_path):
    alone = distill_config(tmp_path / "alone", tiny_model_dir)
    distill(alone, lambda _: None)

    config = distill_config(tmp_path / "two", tiny_model_dir, optimiser={"batch_size": 2})
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "mfsynth.cli", "distill", str(file)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "processes: 2" in done.stdout

    for part in ("model", "average"):
        one, two = (
            load_file(latest_checkpoint(of.output).path / f"{part}.safetensors")
            for of in (alone, config)
        )
        assert one.keys() == two.keys()
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    assert (config.output / "few_steps" / "README.md").is_file()
