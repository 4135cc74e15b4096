"""Has pycocotools open an export: outside CI, which needs it for nothing else.

    python3 -m venv /tmp/coco
    /tmp/coco/bin/pip install pycocotools==2.0.11
    .venv/bin/python tests/peers/open_coco.py /tmp/coco/bin/python

Makes a run of pairs with masks, exports it, and compares the masks that the reader returns.
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
    from metric_run import make_labelled_run

    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.exports.exporting import export
    from mfsynth.datasets.exports.pairs import Pairs
    from mfsynth.datasets.exports.registry import open_exporter

    with tempfile.TemporaryDirectory() as root:
        store = make_labelled_run(f"{root}/run")
        dataset = RGBDDataset(store.url, labels=True)
        export(Pairs(dataset), "coco", open_exporter("coco"), Path(root) / "coco")
        wanted = [None if s.mask is None else s.mask.tolist() for s in dataset]
        (Path(root) / "wanted.json").write_text(json.dumps(wanted))
        subprocess.run([python, __file__, "--open", root], check=True)


def open_there(root: str) -> None:
    """Compare what pycocotools returns; this runs in its environment."""
    import numpy as np
    from pycocotools.coco import COCO

    coco = COCO(f"{root}/coco/annotations/instances.json")
    names = {"mug": 300, "block": 2, "object": 9}
    for number, mask in enumerate(json.loads(Path(f"{root}/wanted.json").read_text()), 1):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        for each in annotations:
            name = coco.cats[each["category_id"]]["name"]
            seen = coco.annToMask(each).astype(bool)
            assert np.array_equal(seen, np.array(mask) == names[name]), (number, name)
        print(f"image {number}: {len(annotations)} masks as they were")


if __name__ == "__main__":
    open_there(sys.argv[2]) if sys.argv[1] == "--open" else main(sys.argv[1])
