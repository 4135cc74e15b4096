"""Memory for the pixels of batches, used again and again.

Fresh memory of some megabytes costs about as much time as decoding a small picture into it: the
system gives it page by page, and takes it back at once.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import OrderedDict, deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mfsynth.config.limits import Limit
from mfsynth.datasets.forks import lock_anew_in_forks
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage

# Three arrays a batch, of batches of some shapes.
_MOST_SIZES = 12
_MOST_FREE = 8

Shape = tuple[int, int]
"""Rows and columns."""


class Pixels(NamedTuple):
    """Arrays of a sample, as `RGBDSample` has them; or of a batch of B, with B in front."""

    rgb: RgbImage
    depth: DepthMap
    valid: Mask


class BufferPool:
    """Lends memory for arrays; it comes back when nothing looks at the array any more.

    Of the sizes asked for last, it keeps what batches need that are made while others are used;
    the rest goes back to the system. Safe for threads and forks. Sent to another process, it is
    empty there.
    """

    def __init__(self) -> None:
        self._free: OrderedDict[int, deque[NDArray[np.uint8]]] = OrderedDict()
        lock_anew_in_forks(self)

    def make_locks(self) -> None:
        """See `mfsynth.datasets.forks`."""
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[BufferPool], tuple[()]]:
        return BufferPool, ()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with whatever is in it, as `numpy.empty`."""
        kind = np.dtype(dtype)
        size = kind.itemsize * int(np.prod(shape))
        with self._lock:
            free = self._free.setdefault(size, deque(maxlen=_MOST_FREE))
            self._free.move_to_end(size)
            if len(self._free) > _MOST_SIZES:
                self._free.popitem(last=False)
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        # Kept alive by the array and by all views of it, whoever has them. NumPy looks through
        # arrays and memory views, for what owns the memory, so this is neither.
        lent = (ctypes.c_ubyte * size).from_buffer(memory.data)
        weakref.finalize(lent, free.append, memory).atexit = False
        whole: NDArray[Any] = np.frombuffer(lent, kind)  # type: ignore[call-overload]
        return whole.reshape(shape)


class Frames:
    """Room for a batch of samples of one size, which the first of them decides.

    Args:
        count: Samples of the batch.
        pool: Where the memory comes from.
    """

    def __init__(self, count: int, pool: BufferPool) -> None:
        self._count, self._pool = count, pool
        self._shape: Shape | None = None
        self._pixels: Pixels | None = None
        self._taken: set[int] = set()

    def part(self, place: int, shape: Shape) -> Pixels | None:
        """Room for one sample; None if it has another size than the first."""
        if self._shape is None:
            self._shape = shape
            # What is no size, or too large a one, is told where the sample is decoded.
            if min(shape) > 0 and shape[0] * shape[1] <= Limit.PIXELS.most:
                of_all = (self._count, *shape)
                self._pixels = Pixels(
                    self._pool.empty((*of_all, 3), np.uint8),
                    self._pool.empty(of_all, np.float32),
                    self._pool.empty(of_all, np.bool_),
                )
        if self._pixels is None or shape != self._shape:
            return None
        self._taken.add(place)
        return Pixels(*(array[place] for array in self._pixels))

    @property
    def whole(self) -> Pixels | None:
        """The batch; None if a sample isn't in it."""
        return self._pixels if len(self._taken) == self._count else None
