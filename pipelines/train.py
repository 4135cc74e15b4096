"""Train on a Ray cluster: the job behind `mfsynth train`, in a worker for every GPU.

    python pipelines/train.py klein-4b 16

Started on the head node, or anywhere with RAY_ADDRESS set; without a cluster, on this machine.
"""

from __future__ import annotations

import argparse
import sys

import torch

from mfsynth.errors import MfsynthError
from mfsynth.training.config import load_train_config
from mfsynth.training.ray_train import train_on_ray


def main(config: str, workers: int, *overrides: str) -> None:
    """Train, or go on where an interrupted training was."""
    use_gpu = torch.cuda.is_available()
    train_on_ray(load_train_config(config, overrides), workers, use_gpu=use_gpu)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="name or path of a training configuration")
    parser.add_argument("workers", type=int, help="one a GPU")
    parser.add_argument("overrides", nargs="*", metavar="A.B=C", help="change a setting")
    given = parser.parse_args()
    try:
        main(given.config, given.workers, *given.overrides)
    except MfsynthError as error:
        sys.exit(f"error: {error}")
