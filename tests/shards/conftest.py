"""Runs to read, damage and mend, and a store to keep them in."""

from __future__ import annotations

import pytest

from mfsynth.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    """An empty place for a run."""
    return ObjectStore.open(tmp_path / "run")
