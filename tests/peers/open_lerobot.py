"""Has lerobot itself open an export: outside CI, for its pins conflict with ours.

    python3.12 -m venv /tmp/lerobot
    /tmp/lerobot/bin/pip install 'lerobot[dataset]==0.6.1' embodied-data==0.3.1
    .venv/bin/python tests/peers/open_lerobot.py /tmp/lerobot/bin/python

Makes a run of four metric pairs, and one of frames of episodes with a gap, an action each, exports
both, and says for each pair what the reader returns, and where in which episode; then has a third
party's checker of such folders, embodied-data, look at them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ACTIONS = [[0.1 * number, -number / 3] for number in range(6)]
PROBES = [(0, 0), (10, 12), (12, 5), (23, 31)]
"""Rows and columns; the first is a hole."""


def main(python: str) -> None:
    """Export, then ask the other environment."""
    from metric_run import make_episode_run, make_metric_run

    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.exports.exporting import export
    from mfsynth.datasets.exports.pairs import Pairs
    from mfsynth.datasets.exports.registry import open_exporter
    from mfsynth.shards.frame_columns import FrameColumn, encode_frame
    from mfsynth.shards.labels import Moment

    moments = [Moment("pour", 2, 0.2), Moment("stack", 0), Moment("pour", 9, 0.9), None]
    moments += [Moment("pour", 10, 1.0), Moment("pour", 11, 1.1)]
    action = FrameColumn("float32", (2,), ["x", "y"])
    frames = [encode_frame({"action": action}, {"action": np.float32(a)}) for a in ACTIONS]
    with tempfile.TemporaryDirectory() as root:
        stores = {
            "pairs": make_metric_run(f"{root}/run", [None, None, 20.0, 70.0]),
            "episodes": make_episode_run(f"{root}/frames", moments, frames),
        }
        # Pairs of the run, episode by episode: frames 3 to 8 of the first are missing.
        episodes = {
            "pairs": [[0], [1], [2], [3]],
            "episodes": [[0], [2, 4, 5], [1], [3]],
        }
        for name, store in stores.items():
            dataset, folder = RGBDDataset(store.url), Path(root) / "lerobot" / name
            exporter = open_exporter("lerobot", ["pairs_per_file=3"])
            export(Pairs(dataset), "lerobot", exporter, folder)
            wanted = [
                {
                    "episode": episode,
                    "frame": frame,
                    "task": sample.prompt,
                    "action": ACTIONS[numbers[frame]] if name == "episodes" else None,
                    "millimetres": [1000 * float(sample.depth[at]) for at in PROBES],
                    "rgb": [int(value) for value in sample.rgb[10, 12]],
                    "k": [float(sample.intrinsics[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))],
                }
                for episode, numbers in enumerate(episodes[name])
                for frame, sample in enumerate(map(dataset.__getitem__, numbers))
            ]
            listed = Path(root) / f"{name}.json"
            listed.write_text(json.dumps(wanted))
            subprocess.run([python, __file__, "--open", str(folder), str(listed)], check=True)
            checker = Path(python).with_name("embodied-data")
            subprocess.run([checker, "validate", str(folder)], check=True)


def open_there(folder: str, wanted: str) -> None:
    """Compare what lerobot returns; this runs in its environment."""
    import lerobot
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/pairs", root=folder)
    pairs = json.loads(Path(wanted).read_text())
    assert len(dataset) == len(pairs)
    assert dataset.num_episodes == pairs[-1]["episode"] + 1
    for number, pair in enumerate(pairs):
        item = dataset[number]
        place = int(item["episode_index"]), int(item["frame_index"])
        assert place == (pair["episode"], pair["frame"]), place
        assert abs(float(item["timestamp"]) - pair["frame"] / dataset.fps) < 1e-6
        depth = item["observation.images.depth"]
        assert tuple(depth.shape) == (1, 24, 32), depth.shape
        found = [float(depth[0, row, column]) for row, column in PROBES]
        errors = [abs(a - b) for a, b in zip(found, pair["millimetres"], strict=True)]
        assert max(errors) < 0.02, (found, pair["millimetres"])
        assert found[0] == 0
        rgb = item["observation.images.rgb"][:, 10, 12] * 255
        assert max(abs(float(rgb[i]) - pair["rgb"][i]) for i in range(3)) < 6
        assert item["task"] == pair["task"]
        if pair["action"] is not None:
            assert item["action"].tolist() == np.float32(pair["action"]).tolist()
            assert dataset.meta.features["action"]["names"] == ["x", "y"]
        assert item["camera.intrinsics"].tolist() == pair["k"]
        print(
            f"{place}, {item['sample_id']}: {[round(mm, 2) for mm in found]} mm, {item['task']!r}"
        )
    mean = dataset.meta.stats["observation.images.depth"]["mean"]
    print(f"lerobot {lerobot.__version__}: {len(dataset)} pairs as they are; mean depth {mean}")


if __name__ == "__main__":
    if sys.argv[1] == "--open":
        open_there(*sys.argv[2:])
    else:
        sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
        main(sys.argv[1])
