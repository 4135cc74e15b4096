"""Where the seconds of a shard went."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class PhaseClock:
    """Wall seconds by phase, summed over the threads that share one."""

    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time inside the `with` to `phase`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - began
            with self.lock:
                self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed

    def total(self) -> dict[str, float]:
        """All phases, and `total` since the clock was made; phases overlap."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.began}
        return {phase: round(value, 3) for phase, value in seconds.items()}
