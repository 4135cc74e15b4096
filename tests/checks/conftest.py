"""Real tiles and synthetic scenes that the tests of the checks share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest_scenes import make_scene

_BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "checks_power.py"


@pytest.fixture(scope="session")
def power() -> ModuleType:
    """The benchmark, so that tests assert the very figures that it prints."""
    spec = importlib.util.spec_from_file_location("checks_power", _BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by name.
    sys.modules["checks_power"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiles(power):
    return power.make_tiles(power.load_frames(), side=224)


@pytest.fixture(params=[64, 224, 512])
def side(request) -> int:
    return request.param


@pytest.fixture
def scene(side):
    return make_scene(side)
