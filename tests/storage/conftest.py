"""A store to keep things in."""

from __future__ import annotations

import pytest

from mfsynth.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    """An empty local folder."""
    return ObjectStore.open(tmp_path / "store")
