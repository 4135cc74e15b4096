"""The same training as a job of Ray Train, on a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mfsynth.errors import MfsynthError
from mfsynth.formatting import printable
from mfsynth.training.config import TrainConfig

# Workers that are lost are started again, and go on from the last checkpoint.
_RESTARTS = 3


def train_on_ray(config: TrainConfig, workers: int, *, use_gpu: bool) -> Path:
    """Train in Ray workers, which form the processes that `torchrun` would start.

    Ray is the cluster of `RAY_ADDRESS`, or this machine. Paths mean the same on every node: output
    and data lie on storage that all of them share.

    Args:
        config: What to train.
        workers: Processes.
        use_gpu: Whether each has a GPU.

    Returns:
        The folder of the finished pipeline.

    Raises:
        MfsynthError: Training failed; says why.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    output = config.output.absolute()
    settings = config.model_copy(update={"output": output}).model_dump(mode="json")
    trainer = TorchTrainer(
        _train,
        train_loop_config={"config": settings, "folder": str(Path.cwd())},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=config.name,
            storage_path=str(output / "ray"),
            failure_config=FailureConfig(max_failures=_RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        # A worker's error comes as its traceback, which ends with what it says.
        failures = getattr(error, "worker_failures", {}) or {0: error}
        reason = str(failures[min(failures)]).strip().splitlines()[-1]
        raise MfsynthError(f"training on Ray failed: {reason}") from error
    return output / "model"


def _train(job: dict[str, Any]) -> None:
    from mfsynth.training.run import train

    os.chdir(job["folder"])
    train(
        TrainConfig.model_validate(job["config"]), lambda line: print(printable(line), flush=True)
    )
