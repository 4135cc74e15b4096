from __future__ import annotations

import pytest
import tiny_run

from mfsynth.storage.store import ObjectStore


@pytest.fixture
def run_store(tmp_path) -> ObjectStore:
    """A local run of three committed shards."""
    return tiny_run.make_run(str(tmp_path / "run"))
