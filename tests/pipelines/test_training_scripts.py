"""Scripts that train on a run, as their users start them."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch
from safetensors.torch import load_file

import mfsynth
from mfsynth.errors import MfsynthError
from mfsynth.models.estimators.embedded import DepthEstimator, estimate_depth
from mfsynth.shards.commits import commit
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore
from mfsynth.training.checkpoints import latest_checkpoint
from mfsynth.training.estimator import share_of_step
from mfsynth.training.estimator_config import load_estimator_config

SUPPORT = Path(__file__).parents[1] / "support"
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "pipelines" / "train_depth_estimator.py"
PAGE = ROOT / "README.md"
# Of eight pairs six are trained on, in three steps an epoch.
TINY = (
    *("size=16", "estimator.widths=[16]", "estimator.blocks=1", "batch_size=2"),
    # Two processes sum in another order than one, of which bfloat16 would keep the most.
    "precision=float32",
    *("steps=10", "warmup_steps=1", "checkpoint_every=4"),
)


def run_here(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.parametrize("script", sorted(SCRIPT.parent.glob("*.py")), ids=lambda path: path.name)
@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0)])
def test_a_script_says_how_it_is_called(script, arguments, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == status
    told = "".join(capsys.readouterr())
    assert re.search(rf"^usage: {script.name} ", told, re.IGNORECASE | re.MULTILINE)
    assert "Traceback" not in told


def run_in_two_processes(*arguments: object) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, f"--master-port={port}", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        timeout=240,
        check=False,
    ).returncode


def depth_by(output: Path, pairs: mfsynth.datasets.RGBDDataset) -> np.ndarray:
    """Of the network of a finished training, before it was rounded."""
    checkpoint = latest_checkpoint(output)
    assert checkpoint.step == 10
    network = DepthEstimator((16,), 1, 16)
    network.load_state_dict(load_file(checkpoint.path / "average.safetensors"))
    return estimate_depth(network, np.stack([pair.rgb for pair in pairs]))


@pytest.mark.slow
def test_two_processes_killed_in_mid_epoch_go_on_as_one_and_end_as_one_that_was_not(
    tmp_path, monkeypatch, capsys
):
    run, whole, parts = (tmp_path / name for name in ("run", "whole", "parts"))
    tiny_run.make_run(str(run))
    run_here(monkeypatch, run, whole, *TINY)
    assert re.search(r"2 pairs held out: AbsRel 0\.\d+, δ1 [01]\.\d+", capsys.readouterr().out)

    assert run_in_two_processes(SUPPORT / "learn_here.py", 4, run, parts, *TINY) != 0
    checkpoint = latest_checkpoint(parts)
    assert checkpoint.step == 4
    assert checkpoint.record.loader["position"] == 2
    run_here(monkeypatch, run, parts, *TINY)
    assert "resumed at step 4" in capsys.readouterr().out
    pairs = mfsynth.open_dataset(run)
    # But for the order of sums.
    np.testing.assert_allclose(depth_by(parts, pairs), depth_by(whole, pairs), rtol=1e-3)


def test_a_step_that_processes_cannot_share_is_told():
    class Three:
        num_processes = 3

    with pytest.raises(MfsynthError, match="batch_size 64 can't be shared by 3 processes; give"):
        share_of_step(load_estimator_config("estimator"), Three())


@pytest.fixture
def alone(monkeypatch):
    """What torchrun tells the only process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    names = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    for name, value in {**names, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)


def page_s_loop() -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    [loop] = [block for block in blocks if "init_process_group" in block]
    return loop


def run_loop(folder: Path, monkeypatch, kill_at: int | None = None) -> dict[str, torch.Tensor]:
    """Run it in a folder with its data in `out/demo`, and give the weights."""
    monkeypatch.chdir(folder)
    replace, saved = os.replace, []

    def replace_or_die(new, last):
        replace(new, last)
        saved.append(last)
        if len(saved) == kill_at:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    found = {}
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_or_die)
        try:
            exec(compile(page_s_loop().replace("% 100", "% 1"), PAGE.name, "exec"), found)
        finally:
            torch.distributed.destroy_process_group()
    return found["network"].state_dict()


def test_the_loop_to_copy_goes_on_in_mid_epoch_and_fits_into_thirty_lines(
    tmp_path, monkeypatch, alone
):
    assert len([line for line in page_s_loop().splitlines() if line]) <= 30
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        store = ObjectStore.open(str(folder / "out/demo"))
        open_run(store, tiny_run.make_manifest())
        for shard in range(2):
            numbers = range(6 * shard, 6 * shard + 6)
            samples = [tiny_run.make_sample(i, height=64, width=64) for i in numbers]
            assert commit(store, tiny_run.upload_shard(store, shard, samples))
    whole = run_loop(folders[0], monkeypatch)
    # Nine of twelve pairs, in two steps an epoch: the first of the third is saved.
    with pytest.raises(KeyboardInterrupt):
        run_loop(folders[1], monkeypatch, kill_at=5)
    parts = run_loop(folders[1], monkeypatch)
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name
