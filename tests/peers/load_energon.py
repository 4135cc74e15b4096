"""Has Megatron-Energon itself load a run: outside CI, in an environment of its own.

    python -m venv /tmp/energon
    /tmp/energon/bin/pip install -c constraints.txt . megatron-energon==7.4.0
    /tmp/energon/bin/python tests/peers/load_energon.py

Makes a run of four metric pairs, finalises it, and says for each pair what the loader returns with
the cooker of `mfsynth.datasets.energon`, and what Energon's own decoder makes of the same depth.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

PROBES = [(0, 0), (10, 12), (12, 5), (23, 31)]
"""Rows and columns; the first is a hole."""


def main() -> None:
    """Load and compare."""
    import megatron.energon as energon
    import numpy as np
    from metric_run import make_metric_run

    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.energon import PairEncoder
    from mfsynth.shards.finalize import finalize

    class Undecided(energon.DefaultTaskEncoder):
        """Hands crude samples on as its own decoder has left them."""

        cookers = (energon.Cooker(energon.stateless(lambda sample: sample)),)

    with tempfile.TemporaryDirectory() as root:
        store = make_metric_run(f"{root}/run", [None, None, 20.0, 70.0])
        finalize(store, energon=True)
        dataset = {sample.sample_id: sample for sample in RGBDDataset(store.url)}

        def batches(encoder, size):
            data = energon.get_train_dataset(
                store.url,
                batch_size=size,
                shuffle_buffer_size=None,
                max_samples_per_sequence=None,
                repeat=False,
                task_encoder=encoder,
                worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=0),
            )
            return [*energon.get_loader(data)]

        seen = set()
        for batch in batches(PairEncoder(), 2):
            for place, key in enumerate(batch.__key__):
                sample = dataset[key]
                depth = batch.depth[place, 0].numpy()
                np.testing.assert_array_equal(depth, sample.depth)
                np.testing.assert_array_equal(batch.rgb[place].permute(1, 2, 0), sample.rgb)
                np.testing.assert_array_equal(batch.intrinsics[place], sample.intrinsics)
                assert batch.depth_kind[place] == "metric_z"
                assert batch.prompt[place] == sample.prompt
                found = [round(1000 * float(depth[at]), 2) for at in PROBES]
                print(f"{key}: {found} mm")
                seen.add(key)
        assert seen == dataset.keys()
        raw = batches(Undecided(), None)[0]["depth.png"]
        print(f"its own decoder: {raw.dtype} {tuple(raw.shape)}, {len(raw.unique())} values")
        print(f"energon {energon.__version__}: {len(seen)} pairs as they are, through PairEncoder")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    main()
