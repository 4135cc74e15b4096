"""Checkpoints: a folder of safetensors files that is there whole, or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mfsynth.training.optimisers import Optimisers
from mfsynth.training.processes import gather_full, shard_like

MODEL, AVERAGE, BASE, OPTIMISER = "model", "average", "base", "optimiser"

_NAME = re.compile(r"checkpoint-(\d{8})")


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where in a training's folder the checkpoint of a step is."""
    return folder / f"checkpoint-{step:08d}"


def latest_checkpoint(folder: Path) -> tuple[int, Path] | None:
    """Step and place of the newest whole checkpoint; None where there is none."""
    found = [
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name))
    ]
    return max(found, default=None)


def write_checkpoint(
    folder: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], is_main: bool
) -> None:
    """Write a checkpoint, then take older ones away.

    Where processes have parts of the tensors, all must call it; the main process writes them
    whole, one file after the other.

    Args:
        folder: Of the training.
        step: That it is of.
        parts: Tensors by name, by the name of their file.
        is_main: Whether this process writes.
    """
    target = checkpoint_folder(folder, step)
    staged = target.with_suffix(".new")
    if is_main:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    for part, tensors in parts.items():
        gathered: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            value = gather_full(tensor)
            if is_main:
                gathered[name] = value.cpu().contiguous()
        if is_main:
            save_file(gathered, staged / f"{part}.safetensors")
    if not is_main:
        return
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path != target:
            shutil.rmtree(path)


def read_part(checkpoint: Path, part: str) -> Iterator[tuple[str, Tensor]]:
    """The whole tensors of a checkpoint's file, one at a time; none where it has no such file."""
    path = checkpoint / f"{part}.safetensors"
    if path.exists():
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)


def optimiser_state(
    optimisers: Optimisers, trained: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Moments and counters of all optimisers, by the parameter's name and their own."""
    return {
        f"{name}.{key}": value
        for name, parameter in trained.items()
        for optimiser in optimisers
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimisers(
    optimisers: Optimisers, trained: Mapping[str, nn.Parameter], state: Iterator[tuple[str, Tensor]]
) -> None:
    """Give optimisers the state that `optimiser_state` took."""
    owner = {
        parameter: optimiser
        for optimiser in optimisers
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    for full_name, value in state:
        name, key = full_name.rsplit(".", 1)
        parameter = trained[name]
        is_counter = value.ndim == 0
        placed = value.to(parameter.device) if is_counter else shard_like(value, parameter)
        owner[parameter].state[parameter][key] = placed
