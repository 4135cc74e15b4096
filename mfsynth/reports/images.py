"""Images as a page carries them: encoded, inside `data:` addresses."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

_LOSSLESS = 101
"""What OpenCV calls the quality of a WebP file without loss."""
_QUALITY = 82


def fit(rgb: NDArray[np.uint8], longest_side: int) -> NDArray[np.uint8]:
    """Shrinks an image (H, W, 3) so that its longer side fits; smaller ones stay as they are."""
    height, width = rgb.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def png(rgb: NDArray[np.uint8]) -> bytes:
    """PNG file of an RGB image (H, W, 3)."""
    return _encode(".png", rgb, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def webp(rgb: NDArray[np.uint8], *, lossless: bool) -> bytes:
    """WebP file of an RGB image (H, W, 3)."""
    return _encode(".webp", rgb, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS if lossless else _QUALITY])


def webp_uri(rgb: NDArray[np.uint8], *, lossless: bool) -> str:
    """Data URI of an image (H, W, 3) as WebP."""
    return data_uri(webp(rgb, lossless=lossless), "image/webp")


def jpeg_uri(data: bytes) -> str | None:
    """Data URI of a stored JPEG, or None if the bytes are no JPEG."""
    return data_uri(data, "image/jpeg") if data.startswith(b"\xff\xd8\xff") else None


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes as a `data:` address that a page can carry in itself."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _encode(suffix: str, rgb: NDArray[np.uint8], options: list[int]) -> bytes:
    _, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()
