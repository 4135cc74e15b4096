"""Has plyfile and trimesh open exported points: outside CI, which needs them for nothing else.

    python3 -m venv /tmp/points
    /tmp/points/bin/pip install plyfile==1.1.5 trimesh==5.2.0
    .venv/bin/python tests/peers/open_points.py /tmp/points/bin/python

Makes a run of four metric pairs, exports it as ply and glb, and compares points, colours and what
is said of them with what mfsynth's own reader and geometry give.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(python: str) -> None:
    """Export, then ask the other environment."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    import numpy as np
    from metric_run import make_metric_run

    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.exports.exporting import export
    from mfsynth.datasets.exports.pairs import Pairs
    from mfsynth.datasets.exports.registry import open_exporter
    from mfsynth.geometry import Intrinsics, backproject
    from mfsynth.geometry.colour import linear_light

    with tempfile.TemporaryDirectory() as root:
        store = make_metric_run(f"{root}/run", [None, None, 20.0, 70.0])
        dataset = RGBDDataset(store.url)
        for name in ("ply", "glb"):
            export(Pairs(dataset), name, open_exporter(name), Path(root) / name)
        for sample in dataset:
            k = sample.intrinsics
            camera = Intrinsics(k[0, 0], k[1, 1], k[0, 2], k[1, 2])
            points = backproject(sample.depth, camera)[sample.valid]
            colours = sample.rgb[sample.valid]
            known = {"points": points, "colours": colours, "light": linear_light(colours)}
            np.savez(f"{root}/{sample.sample_id}.npz", **known)
        subprocess.run([python, __file__, "--open", root], check=True)


def open_there(root: str) -> None:
    """Compare what the readers return; this runs in their environment."""
    import numpy as np
    import plyfile
    import trimesh

    for path in sorted(Path(root).glob("*.npz")):
        wanted = np.load(path)
        data = plyfile.PlyData.read(f"{root}/ply/{path.stem}.ply")
        vertices = data["vertex"]
        points = np.stack([vertices[axis] for axis in "xyz"], axis=1)
        colours = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
        assert np.array_equal(points, wanted["points"])
        assert np.array_equal(colours, wanted["colours"])
        about = dict(comment.split(" ", 1) for comment in data.comments)
        assert (about["sample_id"], about["unit"]) == (path.stem, "metres")

        scene = trimesh.load(f"{root}/glb/{path.stem}.glb")
        [cloud] = scene.geometry.values()
        # x right, y up, z towards the viewer.
        assert np.array_equal(cloud.vertices, wanted["points"] * (1, -1, -1))
        # Of glTF linear light, of which trimesh keeps 8 bits.
        assert np.array_equal(cloud.colors[:, :3], np.rint(255 * wanted["light"]))
        data = Path(f"{root}/glb/{path.stem}.glb").read_bytes()
        head = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
        assert head["asset"]["extras"]["fx_fy_cx_cy"] == about["fx_fy_cx_cy"]
        print(f"{path.stem}: {len(points)} points, K {about['fx_fy_cx_cy']}")
    print(f"trimesh {trimesh.__version__}: points and colours as they were")


if __name__ == "__main__":
    open_there(sys.argv[2]) if sys.argv[1] == "--open" else main(sys.argv[1])
