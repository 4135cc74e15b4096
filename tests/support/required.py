"""What a machine lacks that a test needs."""

from __future__ import annotations

import os

import pytest


def require(lacking: str | None) -> None:
    """Skip what can't run here; where everything must run, fail.

    Args:
        lacking: What to install or to be, for people; None if nothing lacks.
    """
    if lacking is not None and os.environ.get("MFSYNTH_ALL_STORES"):
        pytest.fail(lacking)
    if lacking is not None:
        pytest.skip(lacking)
