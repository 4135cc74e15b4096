"""On what a worker's model runs, for its receipts."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Device:
    """A device: `cpu` or `cuda`, and what it is, for people; both empty where that isn't known."""

    kind: str = ""
    name: str = ""

    @classmethod
    def here(cls, kind: str) -> Device:
        """The one that this process uses.

        Args:
            kind: `cpu` or `cuda`.
        """
        if kind == "cuda":
            import torch

            return cls(kind, torch.cuda.get_device_name())
        return cls(kind, _processor())


def _processor() -> str:
    # Linux, where Python knows no more than the architecture.
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()
