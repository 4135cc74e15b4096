"""What every decoder goes through: one line for whatever it trips over, and limits of size."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError


@contextmanager
def decoding(name: str, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line.

    Args:
        name: The file's name.
        what: What it should be, as in "a PNG".
        remedy: What to do about it.

    Raises:
        MfsynthError: Anything was raised inside the `with`.
    """
    try:
        with warnings.catch_warnings():
            # Of what a decoder finds odd; it raises where that matters.
            warnings.simplefilter("ignore")
            yield
    except MfsynthError:
        raise
    # Decoders fail with whatever they trip over: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            problem = "no known format"
        raise MfsynthError(f"{name}: corrupt or not {what} ({problem}); {remedy}") from error


def require_few(shape: tuple[int, ...], name: str) -> None:
    """Refuse more pixels than `Limit.PIXELS`.

    Raises:
        MfsynthError: There are more.
    """
    pixels = int(np.prod(shape, dtype=object))
    if pixels > Limit.PIXELS.most:
        raise Limit.PIXELS.refusal(name, f"{'x'.join(map(str, shape[::-1]))} pixels")


def require_sane(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Refuse an array that is larger than anybody's map, before memory is given to it.

    Raises:
        MfsynthError: It is, in bytes or in pixels.
    """
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > Limit.BYTES.most:
        raise Limit.BYTES.refusal(name, f"an array of {size} bytes")
    require_few(shape[:2], name)


def library(module: str, package: str, extra: str, name: str) -> Any:
    """A module that only some files need.

    Args:
        module: What to import.
        package: What it is called where packages are.
        extra: Of mfsynth's, that installs it.
        name: The file or folder that needs it.

    Raises:
        MfsynthError: It isn't installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MfsynthError(
            f"{name}: is read with {package}, which isn't here; pip install 'mfsynth[{extra}]'"
        ) from error
