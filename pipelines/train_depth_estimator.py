"""A depth network learns from a run: `mfsynth train estimator` taken apart, to copy from.

    python pipelines/train_depth_estimator.py out/kitchen out/train/kitchen_depth
    torchrun --nproc-per-node 8 pipelines/train_depth_estimator.py s3://bucket/kitchen \
        out/train/kitchen_depth size=256 batch_size=64 steps=50000

A tenth is held out, and tells at the end how far depth is off. Run again after an
interruption, it goes on in mid-epoch where it was, also in another number of processes. A pair that
can't be read ends it; with on_error=skip others take its place.
"""

from __future__ import annotations

import argparse
import json
import sys

import mfsynth
from mfsynth.datasets import ColourJitter, RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.evaluation import score_depth
from mfsynth.models.estimators.embedded import estimate_depth, load_estimator
from mfsynth.training.data import Fitted
from mfsynth.training.estimator import share_of_step, train_on
from mfsynth.training.estimator_config import load_estimator_config
from mfsynth.training.processes import join_processes
from mfsynth.training.progress import quiet

CACHE_BYTES = 50 * 10**9  # of a remote run, on the local disk


def main(url: str, output: str, *overrides: str) -> None:
    """Train, or go on where an interrupted training was, and measure."""
    processes = join_processes()
    data = f"data={json.dumps([{'kind': 'mfsynth', 'url': url}])}"
    config = load_estimator_config("estimator", [data, f"output={output}", *overrides])
    pairs = mfsynth.open_dataset(url, cache_bytes=CACHE_BYTES)
    parts = pairs.split({"train": 0.9, "held_out": 0.1})
    loader = parts["train"].loader(
        share_of_step(config, processes),
        seed=config.seed,
        rank=processes.process_index,
        world_size=processes.num_processes,
        augment=[Fitted(config.size, config.size, mirror=True), ColourJitter()],
        on_error=config.on_error or "raise",
        require_depth=False,  # the loss is 0 without any
    )
    log = print if processes.is_main_process else quiet
    folder = train_on(config, loader, processes, log)
    processes.end_training()
    if processes.is_main_process:
        measure(str(folder), parts["held_out"], skips=config.on_error == "skip")


def measure(estimator: str, pairs: RGBDDataset, *, skips: bool) -> None:
    """Print how far an estimator's depth is off that of pairs that have any."""
    network = load_estimator(estimator)
    found = []
    for number in range(len(pairs)):
        [pair] = pairs.load([number])
        if isinstance(pair, MfsynthError):
            if not skips:
                raise pair
        elif pair.valid.any():
            found.append((estimate_depth(network, pair.rgb[None])[0], pair.depth))
    if found:
        score = score_depth(*zip(*found, strict=True))
        of = "" if len(found) == len(pairs) else f" of {len(pairs)}, others can't be measured"
        print(
            f"{score.images} pairs held out{of}: AbsRel {score.abs_rel:.4f}, δ1 {score.delta1:.4f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="folder or URL of the run")
    parser.add_argument("output", help="folder of the training")
    parser.add_argument("overrides", nargs="*", metavar="A.B=C", help="change a setting")
    given = parser.parse_args()
    try:
        main(given.url, given.output, *given.overrides)
    except MfsynthError as error:
        sys.exit(f"error: {error}")
