"""What `mfsynth --version` says: what decides whether, and how fast, a run goes."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, distribution, version

from mfsynth import __version__

_CUDA = re.compile(r"^cuda\b[^=]*= '([\d.]+)'", re.MULTILINE)


def version_line() -> str:
    """mfsynth, torch and its CUDA, Ray and Python, by what is installed; imports none of them."""
    torch = _version("torch")
    parts = [
        f"mfsynth {__version__}",
        f"torch {torch} ({_cuda()})" if torch else "no torch",
        f"ray {found}" if (found := _version("ray")) else "no ray",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(parts)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cuda() -> str:
    """What torch was built for, as its own `version.py` has it."""
    try:
        text = distribution("torch").read_text("../torch/version.py") or ""
    except OSError:
        text = ""
    found = _CUDA.search(text)
    return f"CUDA {found[1]}" if found else "no CUDA"
