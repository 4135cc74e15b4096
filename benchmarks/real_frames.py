"""The measured frames of tests/data/real_rgbd, for benchmarks that want real images or depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfsynth.evaluation.calibration.config import TrustedPart
from mfsynth.evaluation.calibration.trusted import read_pairs

FRAMES = Path(__file__).parents[1] / "tests" / "data" / "real_rgbd"
Frame = tuple[NDArray[np.uint8], NDArray[np.float32]]


def real_frames(side: int, crops: int = 1, folder: Path = FRAMES) -> list[Frame]:
    """Squares of the frames, RGB uint8 (side, side, 3) and z-depth float32 in metres, 0 = invalid.

    Args:
        side: Rows and columns.
        crops: Squares of each frame, side by side.
        folder: Of frames; `*/*.rgb.jpg`, and `*/*.depth.png` in millimetres.
    """
    part = TrustedPart.model_validate(
        {
            "kind": "folder",
            "layout": "generic",
            "path": str(folder),
            "images": "*/*.rgb.jpg",
            "depths": "*/*.depth.png",
            "codes_per_unit": 1000.0,
            "crops": crops,
        }
    )
    found = read_pairs([part], side, side, lambda what, done, total: None)
    return [(one.pair.rgb, one.pair.depth) for one in found.pairs]
