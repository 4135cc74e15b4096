"""Small images, depth maps and tar files, and settings as a YAML file would give them."""

from __future__ import annotations

import io
import re
import tarfile
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from mfsynth.errors import MfsynthError
from mfsynth.sources.registry import source_settings


def image(number, height=6, width=8):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def codes(number, height=6, width=8):
    """Depth codes from 1, with a hole."""
    rng = np.random.default_rng(1000 + number)
    made = rng.integers(1, 65536, (height, width), dtype=np.uint16)
    made[0, :2] = 0
    return made


def png(array):
    done, data = cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)
    assert done
    return data.tobytes()


def jpeg(array):
    done, data = cv2.imencode(".jpg", array[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    return data.tobytes()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def source(**settings):
    return source_settings(settings).open()


@contextmanager
def one_line_error(pattern):
    """An error of one line that matches."""
    with pytest.raises(MfsynthError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(pattern, message), message


def assert_same_items(a, b):
    assert_same_pixels(a, b)
    assert a.text == b.text
    assert a.intrinsics == b.intrinsics
    assert a.slots == b.slots


def assert_same_samples(a, b):
    assert_same_pixels(a, b)
    assert a.caption == b.caption


def assert_same_pixels(a, b):
    np.testing.assert_array_equal(a.rgb, b.rgb)
    assert (a.depth is None) == (b.depth is None)
    if a.depth is not None:
        np.testing.assert_array_equal(a.depth, b.depth)
