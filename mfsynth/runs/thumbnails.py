"""What a rejected pair looked like, in a few kilobytes."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mfsynth.geometry.colour import colour_depth
from mfsynth.shards.marks import mark_jpeg

MAX_HEIGHT = 192
QUALITY = 85


def pair_thumbnail(
    rgb: NDArray[np.uint8], depth: NDArray[np.float32], digital_source_type: str
) -> bytes:
    """Image and depth side by side as one JPEG with a mark.

    Depth has the colours that it has elsewhere: near is warm, far is cold, invalid is grey.

    Args:
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W); 0, negative and non-finite pixels count as invalid.
        digital_source_type: How what is seen came to be, a term of the IPTC.

    Returns:
        JPEG of at most `MAX_HEIGHT` rows and twice the image's width.
    """
    pair = np.concatenate([rgb, colour_depth(depth)], axis=1)
    if pair.shape[0] > MAX_HEIGHT:
        width = round(pair.shape[1] * MAX_HEIGHT / pair.shape[0])
        pair = cv2.resize(pair, (width, MAX_HEIGHT), interpolation=cv2.INTER_AREA)
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pair), quality=QUALITY)
    return mark_jpeg(jpeg, digital_source_type)
